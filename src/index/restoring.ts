import type { Store } from "#core/store";

import {
  galleryTables,
  keysOfGallery,
  type EntryRecord,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { IsForgotten } from "./tombstones.js";

/** Bytes and entries of one transaction: a few milliseconds, whatever crops there are. */
const copiedBytes = 4 * 1024 * 1024;
const copiedEntries = 128;

/** Where a gallery's entries are copied to. */
export interface CopyTarget {
  readonly store: Store;
  readonly tables: GalleryTables;
  /** The new gallery's; no record has it yet, so nobody sees the entries. */
  readonly number: number;
}

/** How a copy is followed. */
export interface CopyOptions {
  readonly isForgotten: IsForgotten;
  readonly signal: AbortSignal;
  /** Told how many entries were looked at. */
  readonly onCopied: (entries: number) => void;
}

interface Block {
  readonly sequence: number;
  readonly entry: EntryRecord;
  readonly feature: Uint8Array;
  readonly crop: Uint8Array | undefined;
  readonly cropHash: Uint8Array | undefined;
}

/**
 * Copies a gallery's entries out of another store, one small transaction after another, and leaves out what has
 * been forgotten.
 *
 * @returns how many were left out
 * @throws {StoreFullError} @throws {StoreReadOnlyError} @throws the signal's reason
 */
export async function copyEntries(
  from: { readonly tables: GalleryTables; readonly number: number },
  { store, tables, number }: CopyTarget,
  { isForgotten, signal, onCopied }: CopyOptions,
): Promise<number> {
  let leftOut = 0;
  let block: Block[] = [];
  let bytes = 0;
  const flush = async () => {
    const copied = block;
    if (copied.length === 0) return;
    block = [];
    bytes = 0;
    await store.write((writer) => {
      for (const { sequence, entry, feature, crop, cropHash } of copied) {
        const featureKey = [number, entry.featureId ?? sequence];
        writer.put(tables.entries, [number, sequence], entry);
        writer.put(tables.features, featureKey, feature);
        if (crop !== undefined) writer.put(tables.crops, featureKey, crop);
        if (cropHash !== undefined)
          writer.put(tables.cropHashes, featureKey, cropHash);
      }
    });
    onCopied(copied.length);
    signal.throwIfAborted();
  };
  for (const { key, value } of from.tables.entries.range(
    keysOfGallery(from.number),
  )) {
    const sequence = typeof key === "object" ? Number(key[1]) : NaN;
    const featureKey = [from.number, value.featureId ?? sequence];
    const feature = from.tables.features.get(featureKey);
    const crop = value.hasCrop ? from.tables.crops.get(featureKey) : undefined;
    // An entry without a feature was one in the store that was backed up: `check` names it there.
    if (
      feature === undefined ||
      isForgotten(value.identity, value.enrolledAtUs)
    ) {
      leftOut++;
      continue;
    }
    const cropHash = from.tables.cropHashes.get(featureKey);
    block.push({ sequence, entry: value, feature, crop, cropHash });
    bytes += feature.byteLength + (crop?.byteLength ?? 0);
    if (block.length >= copiedEntries || bytes >= copiedBytes) await flush();
  }
  await flush();
  return leftOut;
}

/** The record of a restored gallery before it is in place: what was left out counts as deleted. */
export function restoredRecord(
  record: GalleryRecord,
  { name, number }: { readonly name: string; readonly number: number },
  leftOut: number,
): GalleryRecord {
  const { nextIndex: _, ...rest } = record;
  return {
    ...rest,
    name,
    number,
    sequence: record.sequence + leftOut,
    deletedCount: record.deletedCount + leftOut,
  };
}

/**
 * The record with a sequence that goes on from a larger one that was given under its name.
 *
 * The numbers in between count as written and replaced: `check` finds none missing.
 */
export function continuedRecord(
  record: GalleryRecord,
  lastGiven: number,
): GalleryRecord {
  const skipped = Math.max(0, lastGiven - record.sequence);
  return {
    ...record,
    sequence: record.sequence + skipped,
    writtenCount: record.writtenCount + skipped,
    replacedCount: record.replacedCount + skipped,
  };
}

/** The gallery records of a store. */
export function recordsOf(store: Store): {
  readonly tables: GalleryTables;
  readonly records: ReadonlyMap<string, GalleryRecord>;
} {
  const tables = galleryTables(store);
  const records = new Map(
    [...tables.galleries.range()].map(({ value }) => [value.name, value]),
  );
  return { tables, records };
}
