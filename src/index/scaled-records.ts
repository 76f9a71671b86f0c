import type { SqlRow } from "#core/postgres";

import { featureFromBytes } from "./gallery-records.js";
import type {
  Entry,
  EntryView,
  GalleryDescription,
  GallerySpec,
} from "./gallery-types.js";
import type { IndexSpec } from "./index-kinds.js";
import { noTime, type MilvusRow } from "./milvus.js";

/** A gallery's row: column `record`, as JSON. */
export interface ScaledRecord extends Required<
  Omit<GallerySpec, "defaultTtlMs" | "index">
> {
  readonly index: IndexSpec;
  readonly defaultTtlMs: number | null;
  readonly createdAtUs: number;
  /** Last write. */
  readonly sequence: number;
  readonly entryCount: number;
  readonly identityCount: number;
}

/** A gallery as one statement found it. */
export interface ScaledState {
  /** First part of its entries' keys, and of its collection's name. */
  readonly number: number;
  readonly record: ScaledRecord;
  /** Oldest entry that Milvus does not have; null: none. */
  readonly oldestWaiting: number | null;
}

/** Reads galleries as {@link ScaledState}; a condition and an order may follow. */
export const selectGalleries = `SELECT number, record, (
    SELECT min(sequence) FROM outbox WHERE gallery = number AND NOT removed
  ) AS "oldestWaiting" FROM galleries`;

/** A gallery as it stands. */
export function descriptionOf(
  { record, oldestWaiting }: ScaledState,
  isClosed: boolean,
): GalleryDescription {
  const { defaultTtlMs, ...rest } = record;
  return {
    ...rest,
    defaultTtlMs: defaultTtlMs ?? undefined,
    state: isClosed ? "closed" : "ready",
    indexedSequence:
      oldestWaiting === null ? record.sequence : oldestWaiting - 1,
    indexBytes: 0,
  };
}

const basicColumns =
  "sequence, entry_id, identity, camera_id, track_id, captured_at_us, expires_at_us, enrolled_at_us";

/** The columns that a view needs. */
export const viewColumns: Readonly<Record<EntryView, string>> = {
  basic: basicColumns,
  full: `${basicColumns}, attributes`,
  feature: `${basicColumns}, attributes, feature`,
  crop: `${basicColumns}, attributes, crop`,
};

/** An entry's row, with the columns that were asked for. */
export interface EntryRow extends SqlRow {
  readonly sequence: number;
  readonly entry_id: string;
  readonly identity: string;
  readonly camera_id: string;
  readonly track_id: string;
  readonly captured_at_us: number | null;
  readonly expires_at_us: number | null;
  readonly enrolled_at_us: number;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly feature?: Buffer;
  readonly crop?: Buffer | null;
}

/** An entry as reads return it. */
export function entryFrom(row: EntryRow, view: EntryView): Entry {
  const { captured_at_us, expires_at_us, feature, crop } = row;
  return {
    entryId: row.entry_id,
    sequence: row.sequence,
    identity: row.identity,
    cameraId: row.camera_id,
    trackId: row.track_id,
    attributes: view === "basic" ? {} : (row.attributes ?? {}),
    enrolledAtUs: row.enrolled_at_us,
    ...(captured_at_us === null ? {} : { capturedAtUs: captured_at_us }),
    ...(expires_at_us === null ? {} : { expiresAtUs: expires_at_us }),
    ...(view === "feature" && feature !== undefined
      ? { feature: featureFromBytes(feature) }
      : {}),
    ...(view === "crop" && crop !== undefined && crop !== null ? { crop } : {}),
  };
}

/** The columns that {@link milvusRowFrom} needs. */
export const milvusColumns = `${basicColumns}, attributes, feature`;

/** An entry as its collection holds it. */
export function milvusRowFrom(row: EntryRow): MilvusRow {
  return {
    id: row.sequence,
    feature: featureFromBytes(row.feature ?? Buffer.alloc(0)),
    entry_id: row.entry_id,
    identity: row.identity,
    camera_id: row.camera_id,
    track_id: row.track_id,
    captured_at: row.captured_at_us ?? noTime,
    attributes: row.attributes ?? {},
  };
}

/** The name of a gallery's collection. */
export function collectionOf(deployment: string, number: number): string {
  return `reid_${deployment}_${number}`;
}
