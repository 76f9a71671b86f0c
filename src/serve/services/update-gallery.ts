import { GalleryBusyError } from "#index/errors";
import { FieldInvalidError } from "../errors.js";
import { galleryChangesFrom } from "../gallery-requests.js";
import { requireSegments } from "../index-spec.js";
import type { UpdateGalleryRequest__Output } from "../generated/reid/v1/UpdateGalleryRequest.js";
import type { UpdateGalleryResponse } from "../generated/reid/v1/UpdateGalleryResponse.js";
import type { ServiceContext } from "./context.js";
import { openGallery, showGallery } from "./open-gallery.js";
import { operationToWire } from "./operation.js";

/**
 * Changes a gallery's settings; a changed index is rebuilt as an operation.
 *
 * @throws {GalleryBusyError} another index is wanted while work on the gallery is under way
 */
export async function updateGallery(
  context: ServiceContext,
  request: UpdateGalleryRequest__Output,
): Promise<UpdateGalleryResponse> {
  const { config, operations, rebuilds, backups } = context;
  if (request.gallery === null)
    throw new FieldInvalidError("gallery", "", "a gallery with its name");
  const mask = request.updateMask?.paths ?? [];
  const changes = galleryChangesFrom(request.gallery, mask, config);
  const gallery = await openGallery(context, request.gallery.name);
  requireSegments(changes.index, gallery.describe().dimension);
  await operations.refresh();
  const running =
    operations.runningOn(`gallery/${gallery.name}`)?.operationId ??
    backups.restoringTo(gallery.name);
  if (changes.index !== undefined && running !== undefined)
    throw new GalleryBusyError(gallery.name, "worked on", running);
  await gallery.update(changes);
  const operation =
    gallery.wantedIndex === undefined
      ? undefined
      : await rebuilds.start(gallery.name);
  return {
    gallery: showGallery(context, gallery),
    ...(operation === undefined
      ? {}
      : { operation: operationToWire(context, operation) }),
  };
}
