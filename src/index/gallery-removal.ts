import type { Store, Writer } from "#core/store";

import {
  keysOfGallery,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";

/** Keys removed in one transaction: a few milliseconds of the main thread. */
const removedAtOnce = 1000;

function tablesOf({ entries, features, crops, cropHashes }: GalleryTables) {
  return [entries, features, crops, cropHashes];
}

/**
 * Removes every entry, feature, crop and hash of a gallery whose record is gone.
 *
 * One transaction after another, so that other calls are answered meanwhile. What a crash leaves is found by
 * {@link orphans}: a gallery's number is never given again.
 *
 * @throws {StoreFullError} @throws {StoreReadOnlyError} the rest stays for the next start
 */
export async function removeEntries(
  store: Store,
  tables: GalleryTables,
  number: number,
): Promise<void> {
  const keys = keysOfGallery(number);
  for (const table of tablesOf(tables))
    while (table.count({ ...keys, limit: 1 }) > 0)
      await store.write((writer) => {
        writer.removeRange<unknown>(table, { ...keys, limit: removedAtOnce });
      });
}

/** Numbers under which entries, features or crops are stored and that no gallery has. */
export function orphans(
  tables: GalleryTables,
  galleries: ReadonlySet<number>,
): readonly number[] {
  const found = new Set<number>();
  for (const table of tablesOf(tables)) {
    let from = 0;
    for (;;) {
      const [first] = table.range({ start: [from], limit: 1 });
      if (first === undefined) break;
      const number = typeof first.key === "object" ? Number(first.key[0]) : 0;
      if (!galleries.has(number)) found.add(number);
      from = number + 1;
    }
  }
  return [...found];
}

function lastSequenceKey(name: string): string {
  return `last-sequence/${name}`;
}

/** The last sequence that a gallery of this name gave before it was deleted; 0: none was. */
export function lastSequenceOf(
  { counters }: GalleryTables,
  name: string,
): number {
  return counters.get(lastSequenceKey(name)) ?? 0;
}

/** Notes, with a gallery's deletion, what was given under its name: a restore goes on from there. */
export function noteLastSequence(
  writer: Writer,
  tables: GalleryTables,
  { name, sequence }: Pick<GalleryRecord, "name" | "sequence">,
): void {
  const last = Math.max(sequence, lastSequenceOf(tables, name));
  writer.put(tables.counters, lastSequenceKey(name), last);
}
