import type { Store } from "#core/store";

import {
  entryCountOf,
  factsOf,
  galleryTables,
  keysOfGallery,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import { removeEntries } from "./gallery-removal.js";
import type { GalleryDescription } from "./gallery-types.js";
import { Turns } from "./turns.js";

/** Entries decoded in one turn of the main thread. */
const decodedAtOnce = 256;

/** Keys removed in one transaction. */
const removedAtOnce = 1000;

/** Tables of no gallery: memories, operations, answers to request ids. */
const otherTables = [
  ...["memory-rows", "memory-clusterings", "memory-states"],
  ...["operations", "requests", "request-times"],
];

/** The galleries in a copy of a store, by name, as they were. */
export async function describeCopy(
  copy: Store,
): Promise<readonly GalleryDescription[]> {
  const tables = galleryTables(copy);
  const galleries: GalleryDescription[] = [];
  for (const { value } of [...tables.galleries.range()]) {
    const identities = await identitiesOf(tables, value);
    galleries.push({
      ...factsOf(value),
      state: "ready",
      entryCount: entryCountOf(value),
      identityCount: identities.size,
      indexedSequence: value.sequence,
      indexBytes: 0,
    });
  }
  return galleries;
}

async function identitiesOf(
  tables: GalleryTables,
  { number }: GalleryRecord,
): Promise<ReadonlySet<string>> {
  const identities = new Set<string>();
  const turns = new Turns(decodedAtOnce);
  for (const { value } of tables.entries.range(keysOfGallery(number))) {
    if (value.identity !== "") identities.add(value.identity);
    if (turns.isOver) await turns.next();
  }
  return identities;
}

/** Takes everything out of a copy that is not of these galleries; what was forgotten stays known. */
export async function reduceCopy(
  copy: Store,
  kept: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const tables = galleryTables(copy);
  for (const { key, value } of [...tables.galleries.range()]) {
    if (kept.has(value.name)) continue;
    signal.throwIfAborted();
    await copy.write((writer) => writer.remove(tables.galleries, key));
    await removeEntries(copy, tables, value.number);
  }
  for (const name of otherTables) {
    // Values are not decoded: as bytes every table can be emptied.
    const table = copy.table(name, "bytes");
    while (table.count({ limit: 1 }) > 0) {
      signal.throwIfAborted();
      await copy.write((writer) =>
        writer.removeRange(table, { limit: removedAtOnce }),
      );
    }
  }
}
