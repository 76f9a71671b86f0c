import type { KeyRange, Store, StoreKey, Table } from "#core/store";
import { StoreCorruptError } from "#core/store-errors";

import type { GallerySpec } from "./gallery-types.js";
import type { IndexSpec } from "./index-kinds.js";

/** A gallery in the store, under its name; written again with every write to the gallery. */
export interface GalleryRecord extends Required<
  Omit<GallerySpec, "defaultTtlMs" | "index">
> {
  readonly index: IndexSpec;
  /** The kind follows the number of entries; left out: it was named by somebody. */
  readonly autoIndex?: true;
  /** What the index is being rebuilt to; left out: nothing else than it is. */
  readonly nextIndex?: IndexSpec;
  /** Snapshots from before this write hold what has been forgotten; left out: nothing was. */
  readonly forgottenSequence?: number;
  readonly defaultTtlMs: number | undefined;
  /** First part of its entries' keys; never used for another gallery. */
  readonly number: number;
  readonly createdAtUs: number;
  /** Last write; = writtenCount + deletedCount. */
  readonly sequence: number;
  readonly writtenCount: number;
  /** Of the written, those that took the place of an entry. */
  readonly replacedCount: number;
  readonly deletedCount: number;
}

/** An entry in the store, under [gallery number, sequence]; feature and crop are in tables of their own, under its feature id. */
export interface EntryRecord {
  readonly entryId: string;
  readonly identity: string;
  readonly cameraId: string;
  readonly capturedAtUs: number | undefined;
  readonly trackId: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly expiresAtUs: number | undefined;
  readonly enrolledAtUs: number;
  readonly hasCrop: boolean;
  /** Sequence under which its feature and crop are, where it is not the entry's: it was updated since. */
  readonly featureId?: number;
}

/** The tables of all galleries of a store. Layout: docs/formats.md. */
export interface GalleryTables {
  readonly galleries: Table<GalleryRecord>;
  readonly counters: Table<number>;
  readonly entries: Table<EntryRecord>;
  readonly features: Table<Uint8Array>;
  readonly crops: Table<Uint8Array>;
  /** By feature id, like the crops: what a forgetting tells the rest of the server by, where there was a crop. */
  readonly cropHashes: Table<Uint8Array>;
}

/** Opens the tables. */
export function galleryTables(store: Store): GalleryTables {
  return {
    galleries: store.table<GalleryRecord>("galleries", "data"),
    counters: store.table<number>("gallery-counters", "data"),
    entries: store.table<EntryRecord>("entries", "data"),
    features: store.table("features", "bytes"),
    crops: store.table("crops", "bytes"),
    cropHashes: store.table("crop-hashes", "bytes"),
  };
}

/** What a gallery's record says to people; the rest is for the gallery itself. */
export function factsOf(
  record: GalleryRecord,
): Omit<
  GalleryRecord,
  | "number"
  | "writtenCount"
  | "replacedCount"
  | "deletedCount"
  | "nextIndex"
  | "forgottenSequence"
> {
  // Field by field: leaving the others out of a copy takes ten times as long, and every call asks.
  return {
    name: record.name,
    model: record.model,
    dimension: record.dimension,
    modelPolicy: record.modelPolicy,
    index: record.index,
    ...(record.autoIndex === undefined ? {} : { autoIndex: record.autoIndex }),
    cropRetention: record.cropRetention,
    defaultTtlMs: record.defaultTtlMs,
    maxEntries: record.maxEntries,
    tags: record.tags,
    createdAtUs: record.createdAtUs,
    sequence: record.sequence,
  };
}

/** How many entries a gallery's record speaks of. */
export function entryCountOf(record: GalleryRecord): number {
  return record.writtenCount - record.replacedCount - record.deletedCount;
}

/** Every key of one gallery, in the tables keyed by [gallery number, sequence]. */
export function keysOfGallery(number: number): KeyRange {
  return { start: [number], end: [number + 1] };
}

/** The bytes of a feature as stored: float32 little-endian. @returns a view, not a copy */
export function bytesFromFeature(feature: Float32Array): Uint8Array {
  return new Uint8Array(feature.buffer, feature.byteOffset, feature.byteLength);
}

/** A value for who can go on without it. @returns undefined: it is gone or damaged, which `check` says */
export function soundValue<Value>(
  table: Table<Value>,
  key: StoreKey,
): Value | undefined {
  try {
    return table.get(key);
  } catch (error) {
    if (error instanceof StoreCorruptError) return undefined;
    throw error;
  }
}

/** A feature from its stored bytes. @returns float32 [D]; a copy */
export function featureFromBytes(bytes: Uint8Array): Float32Array {
  const feature = new Float32Array(bytes.byteLength >> 2);
  new Uint8Array(feature.buffer).set(bytes.subarray(0, feature.byteLength));
  return feature;
}
