import type {
  DeleteOutcome,
  Entry,
  EntrySelector,
  GalleryDescription,
} from "#index/gallery-types";
import type { KeepResponse } from "#index/request-log";
import { entryToWire, isLargeView, viewFrom } from "../entries.js";
import { FieldInvalidError } from "../errors.js";
import { countFrom, requireId, requireName } from "../fields.js";
import { FilterBudget, filterFrom } from "../filters.js";
import { galleryToWire, gallerySpecFrom } from "../gallery-requests.js";
import type { CreateGalleryRequest__Output } from "../generated/reid/v1/CreateGalleryRequest.js";
import type { CreateGalleryResponse } from "../generated/reid/v1/CreateGalleryResponse.js";
import type { DeleteEntriesRequest__Output } from "../generated/reid/v1/DeleteEntriesRequest.js";
import type { DeleteEntriesResponse } from "../generated/reid/v1/DeleteEntriesResponse.js";
import type { GalleryServiceHandlers } from "../generated/reid/v1/GalleryService.js";
import type { ListEntriesRequest__Output } from "../generated/reid/v1/ListEntriesRequest.js";
import type { ListEntriesResponse } from "../generated/reid/v1/ListEntriesResponse.js";
import { rejectUnary, unary } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { enroll } from "./enroll.js";
import { streamEnroll } from "./stream-enroll.js";
import { forgetIdentity } from "./forget-identity.js";
import { identified, openGallery, showGallery } from "./open-gallery.js";
import { updateGallery } from "./update-gallery.js";

/** Ids that one DeleteEntries may name. */
const MAX_SELECTED = 1000;

/** More than an entry can have beside its crop: ids, attributes, times; features where there is no crop. */
const ENTRY_BYTES = 4096;

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
      async (request) => {
        const page = pages.read(request, "galleries", config.limits.pageSize);
        const { items, next } = pages.slice(await galleries.list(), page, {
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
    ListEntries: unary(context, "GalleryService/ListEntries", (request) =>
      listEntries(context, request),
    ),
    DeleteEntries: unary(context, "GalleryService/DeleteEntries", (request) =>
      deleteEntries(context, request),
    ),
    UpdateGallery: unary(context, "GalleryService/UpdateGallery", (request) =>
      updateGallery(context, request),
    ),
    StreamEnroll: streamEnroll(context),
    UpdateEntries: rejectUnary(context, "GalleryService/UpdateEntries"),
    ListIdentities: rejectUnary(context, "GalleryService/ListIdentities"),
    ForgetIdentity: unary(context, "GalleryService/ForgetIdentity", (request) =>
      forgetIdentity(context, request),
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

async function listEntries(
  context: ServiceContext,
  request: ListEntriesRequest__Output,
): Promise<ListEntriesResponse> {
  const { limits } = context.config;
  const view = viewFrom(request.view);
  const filter = filterFrom(
    request.filter,
    "filter",
    new FilterBudget(limits.filterValues),
  );
  const bound = ["entries", request.gallery, view, filter ?? null];
  const maximum = isLargeView(view) ? limits.largeHits : limits.pageSize;
  const page = context.pages.read(request, bound, maximum);
  const gallery = await openGallery(context, request.gallery);
  const { model } = gallery.describe();
  const { entries, nextSequence } = await gallery.listEntries({
    view,
    pageSize: page.size,
    ...(filter === undefined ? {} : { filter }),
    ...(page.after === undefined
      ? {}
      : { afterSequence: countFrom(page.after, "page_token") }),
  });
  const fitting = entriesThatFit(entries, limits.responseBytes);
  const isCut = fitting < entries.length;
  const next = isCut ? entries[fitting - 1].sequence : nextSequence;
  return {
    entries: entries
      .slice(0, fitting)
      .map((entry) => entryToWire(entry, model)),
    nextPageToken: context.pages.token(next?.toString(), bound),
  };
}

/** How many entries, at least one, fit in an answer with their kept crops. */
function entriesThatFit(
  entries: readonly Entry[],
  responseBytes: number,
): number {
  let bytes = 0;
  const first = entries.findIndex(({ crop }) => {
    bytes += (crop?.length ?? 0) + ENTRY_BYTES;
    return bytes > responseBytes;
  });
  return first < 0 ? entries.length : Math.max(1, first);
}

async function deleteEntries(
  context: ServiceContext,
  request: DeleteEntriesRequest__Output,
): Promise<DeleteEntriesResponse> {
  const selector = selectorFrom(context, request);
  const gallery = await openGallery(context, request.gallery);
  const outcome: DeleteOutcome = await gallery.deleteEntries(selector);
  context.telemetry.add("reid.gallery.writes", outcome.deletedCount, {
    gallery: gallery.name,
    write: "delete",
  });
  return {
    deletedCount: String(outcome.deletedCount),
    sequence: String(outcome.sequence),
  };
}

function selectorFrom(
  context: ServiceContext,
  request: DeleteEntriesRequest__Output,
): EntrySelector {
  const { selector } = request;
  const given = [
    (selector?.entryIds.length ?? 0) > 0,
    (selector?.identity ?? "") !== "",
    (selector?.filter ?? null) !== null,
  ].filter(Boolean).length;
  if (selector === null || given !== 1)
    throw new FieldInvalidError(
      "selector",
      given === 0 ? "" : `${given} fields`,
      "exactly one of entry_ids, identity and filter",
    );
  const { entryIds, identity } = selector;
  if (entryIds.length > MAX_SELECTED)
    throw new FieldInvalidError(
      "selector.entry_ids",
      `${entryIds.length} ids`,
      `at most ${MAX_SELECTED}`,
    );
  if (entryIds.length > 0)
    return {
      entryIds: entryIds.map((id, i) =>
        requireId(id, `selector.entry_ids[${i}]`),
      ),
    };
  if (identity !== "")
    return { identity: requireId(identity, "selector.identity") };
  const budget = new FilterBudget(context.config.limits.filterValues);
  return {
    filter: filterFrom(selector.filter, "selector.filter", budget) ?? {},
  };
}
