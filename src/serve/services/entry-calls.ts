import type { EntrySelector } from "#index/gallery-types";
import { Turns } from "#index/turns";
import { entryChangesFrom } from "../entry-updates.js";
import { entryToWire, isLargeView, viewFrom } from "../entries.js";
import { FieldInvalidError } from "../errors.js";
import { countFrom, requireId } from "../fields.js";
import { FilterBudget, filterFrom } from "../filters.js";
import type { DeleteEntriesRequest__Output } from "../generated/reid/v1/DeleteEntriesRequest.js";
import type { DeleteEntriesResponse } from "../generated/reid/v1/DeleteEntriesResponse.js";
import type { EntrySelector__Output } from "../generated/reid/v1/EntrySelector.js";
import type { ListEntriesRequest__Output } from "../generated/reid/v1/ListEntriesRequest.js";
import type { ListEntriesResponse } from "../generated/reid/v1/ListEntriesResponse.js";
import type { UpdateEntriesRequest__Output } from "../generated/reid/v1/UpdateEntriesRequest.js";
import type { UpdateEntriesResponse } from "../generated/reid/v1/UpdateEntriesResponse.js";
import { fittingCount } from "../pages.js";
import type { ServiceContext } from "./context.js";
import { serializeResponse } from "./definitions.js";
import { openGallery } from "./open-gallery.js";

/** Ids that one selector may name. */
const MAX_SELECTED = 1000;

/** More than an entry can have beside its crop: ids, attributes, times; features where there is no crop. */
const ENTRY_BYTES = 4096;

/** Entries written in one turn of the main thread: some 8 µs each. */
const writtenAtOnce = 64;

/** Entries by sequence, a page at a time. @returns a ListEntriesResponse as it is sent, written in turns */
export async function listEntries(
  context: ServiceContext,
  request: ListEntriesRequest__Output,
): Promise<Buffer> {
  const { limits } = context.config;
  const view = viewFrom(request.view);
  const filter = filterFrom(
    request.filter,
    "filter",
    new FilterBudget(limits.filterValues),
  );
  const bound = ["entries", request.gallery, view, filter ?? null];
  const maximum = isLargeView(view)
    ? Math.min(limits.largeHits, limits.pageSize)
    : limits.pageSize;
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
  const fitting = fittingCount(
    entries,
    ({ crop }) => (crop?.length ?? 0) + ENTRY_BYTES,
    limits.responseBytes,
  );
  const isCut = fitting < entries.length;
  const next = isCut ? entries[fitting - 1].sequence : nextSequence;
  const nextPageToken = context.pages.token(next?.toString(), bound);
  const write = (part: ListEntriesResponse) =>
    serializeResponse("GalleryService/ListEntries", part);
  // The parts of a message that is cut between two items of a list, one behind the other, are the message.
  const parts = [write({ nextPageToken })];
  const turns = new Turns(writtenAtOnce);
  for (let at = 0; at < fitting; at += writtenAtOnce) {
    if (turns.count(writtenAtOnce)) await turns.next();
    const some = entries.slice(at, Math.min(at + writtenAtOnce, fitting));
    parts.push(
      write({ entries: some.map((entry) => entryToWire(entry, model)) }),
    );
  }
  return Buffer.concat(parts);
}

/** Deletes the entries that a selector names. @throws {FilterEmptyError} */
export async function deleteEntries(
  context: ServiceContext,
  request: DeleteEntriesRequest__Output,
): Promise<DeleteEntriesResponse> {
  const selector = selectorFrom(context, request.selector);
  const gallery = await openGallery(context, request.gallery);
  const outcome = await gallery.deleteEntries(selector);
  context.telemetry.add("reid.gallery.writes", outcome.deletedCount, {
    gallery: gallery.name,
    write: "delete",
  });
  return {
    deletedCount: String(outcome.deletedCount),
    sequence: String(outcome.sequence),
  };
}

/** Gives the entries that a selector names new values. @throws {FilterEmptyError} */
export async function updateEntries(
  context: ServiceContext,
  request: UpdateEntriesRequest__Output,
): Promise<UpdateEntriesResponse> {
  const { attributes: maximum } = context.config.limits;
  const selector = selectorFrom(context, request.selector);
  const mask = request.updateMask?.paths ?? [];
  const changes = entryChangesFrom(request.entry, mask, maximum);
  const gallery = await openGallery(context, request.gallery);
  const outcome = await gallery.updateEntries(selector, changes);
  if (outcome.overfull !== undefined)
    throw new FieldInvalidError(
      "entry.attributes",
      `more with those of entry "${outcome.overfull}"`,
      `at most ${maximum} in an entry`,
    );
  context.telemetry.add("reid.gallery.writes", outcome.updatedCount, {
    gallery: gallery.name,
    write: "update",
  });
  return {
    updatedCount: String(outcome.updatedCount),
    sequence: String(outcome.sequence),
  };
}

function selectorFrom(
  context: ServiceContext,
  selector: EntrySelector__Output | null,
): EntrySelector {
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
