import type { GalleryDescription } from "#index/gallery-types";
import type { KeepResponse } from "#index/request-log";
import { entryToWire, viewFrom } from "../entries.js";
import { FieldInvalidError } from "../errors.js";
import { requireId, requireName } from "../fields.js";
import { galleryToWire, gallerySpecFrom } from "../gallery-requests.js";
import type { CreateGalleryRequest__Output } from "../generated/reid/v1/CreateGalleryRequest.js";
import type { CreateGalleryResponse } from "../generated/reid/v1/CreateGalleryResponse.js";
import type { ListEntriesResponse } from "../generated/reid/v1/ListEntriesResponse.js";
import type { GalleryServiceHandlers } from "../generated/reid/v1/GalleryService.js";
import { unary } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { deleteEntries, listEntries, updateEntries } from "./entry-calls.js";
import { enroll } from "./enroll.js";
import { streamEnroll } from "./stream-enroll.js";
import { forgetIdentity } from "./forget-identity.js";
import { listIdentities } from "./list-identities.js";
import { identified, openGallery, showGallery } from "./open-gallery.js";
import { updateGallery } from "./update-gallery.js";

/** Handlers of GalleryService. */
export function galleryService(
  context: ServiceContext,
): GalleryServiceHandlers {
  const { galleries, pages, config } = context;
  return {
    CreateGallery: unary(
      context,
      "GalleryService/CreateGallery",
      (request: CreateGalleryRequest__Output) =>
        createGallery(context, request),
    ),
    GetGallery: unary(context, "GalleryService/GetGallery", async (request) => {
      const gallery = await openGallery(context, request.gallery);
      return { gallery: showGallery(context, gallery) };
    }),
    ListGalleries: unary(
      context,
      "GalleryService/ListGalleries",
      async (request, { principal }) => {
        const page = pages.read(request, "galleries", config.limits.pageSize);
        const seen = (await galleries.list()).filter(({ name }) =>
          principal.galleries.match(name),
        );
        const { items, next } = pages.slice(seen, page, {
          keyOf: ({ name }) => name,
          compare: ({ name }, key) => (name > key ? 1 : name < key ? -1 : 0),
        });
        return {
          galleries: items.map((one) => showGallery(context, one)),
          nextPageToken: pages.token(next, "galleries"),
        };
      },
    ),
    DeleteGallery: unary(
      context,
      "GalleryService/DeleteGallery",
      async (request) => {
        await galleries.delete(requireName(request.gallery, "gallery"));
        return {};
      },
    ),
    Enroll: unary(context, "GalleryService/Enroll", (request, call) =>
      enroll(context, request, call),
    ),
    GetEntry: unary(context, "GalleryService/GetEntry", async (request) => {
      const view = viewFrom(request.view);
      const entryId = requireId(request.entryId, "entry_id");
      const gallery = await openGallery(context, request.gallery);
      const { model } = gallery.describe();
      const entry = await gallery.getEntry(entryId, view);
      return { entry: entryToWire(entry, model) };
    }),
    ListEntries: unary<"GalleryService/ListEntries", ListEntriesResponse>(
      context,
      "GalleryService/ListEntries",
      (request) => listEntries(context, request),
    ),
    DeleteEntries: unary(context, "GalleryService/DeleteEntries", (request) =>
      deleteEntries(context, request),
    ),
    UpdateGallery: unary(context, "GalleryService/UpdateGallery", (request) =>
      updateGallery(context, request),
    ),
    StreamEnroll: streamEnroll(context),
    UpdateEntries: unary(context, "GalleryService/UpdateEntries", (request) =>
      updateEntries(context, request),
    ),
    ListIdentities: unary(context, "GalleryService/ListIdentities", (request) =>
      listIdentities(context, request),
    ),
    ForgetIdentity: unary(
      context,
      "GalleryService/ForgetIdentity",
      (request, call) => forgetIdentity(context, request, call),
    ),
  };
}

async function createGallery(
  context: ServiceContext,
  request: CreateGalleryRequest__Output,
): Promise<CreateGalleryResponse> {
  const { CreateGallery } = serviceDefinition("GalleryService");
  const { galleries, registry, config } = context;
  const { gallery } = request;
  if (gallery === null)
    throw new FieldInvalidError("gallery", "", "a gallery with a name");
  const id = identified(request, CreateGallery);
  const bytes = await galleries.requests.once(
    id,
    async (keep: KeepResponse) => {
      const respond = (made: GalleryDescription) =>
        CreateGallery.responseSerialize({ gallery: galleryToWire(made) });
      const made = await galleries.create(
        gallerySpecFrom(gallery, registry, config),
        (writer, description) => keep(writer, respond(description)),
      );
      return respond(made.describe());
    },
  );
  return CreateGallery.responseDeserialize(Buffer.from(bytes));
}
