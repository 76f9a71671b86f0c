import type { Gallery } from "#index/galleries";
import type { IdentifiedRequest } from "#index/request-turns";
import { requestIdFrom, requireName } from "../fields.js";
import { galleryToWire } from "../gallery-requests.js";
import type { Gallery as WireGallery } from "../generated/reid/v1/Gallery.js";
import type { ServiceContext } from "./context.js";

/** The gallery that a request names. @throws {FieldInvalidError} a bad name @throws {GalleryNotFoundError} */
export async function openGallery(
  context: ServiceContext,
  name: string,
): Promise<Gallery> {
  return context.galleries.get(requireName(name, "gallery"));
}

/** A gallery as it stands, with the work under way on it. */
export function showGallery(
  { operations, backups }: Pick<ServiceContext, "operations" | "backups">,
  gallery: Gallery,
): WireGallery {
  const running = operations.runningOn(`gallery/${gallery.name}`);
  return galleryToWire(
    gallery.describe(),
    running?.operationId ?? backups.restoringTo(gallery.name),
  );
}

/** A request's id with the bytes it goes for; undefined where the caller gave none. @throws {FieldInvalidError} */
export function identified<Request extends { readonly requestId: string }>(
  request: Request,
  method: {
    readonly path: string;
    requestSerialize(request: Request): Uint8Array;
  },
): IdentifiedRequest | undefined {
  const requestId = requestIdFrom(request.requestId);
  if (requestId === undefined) return undefined;
  const bytes = method.requestSerialize({ ...request, requestId });
  const path = Buffer.from(`${method.path}\n`);
  return { requestId, request: Buffer.concat([path, bytes]) };
}
