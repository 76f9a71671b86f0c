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
import { attributesFrom } from "./scaled-text.js";

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
  /** Rises with every change of this record; left out: 0. */
  readonly revision?: number;
  /** The kind follows the number of entries; left out: it was named by somebody. */
  readonly autoIndex?: true;
  /** What the index is to be rebuilt to; left out: nothing else than it is. */
  readonly nextIndex?: IndexSpec;
  /** Which of its collections is searched; left out: 0. */
  readonly generation?: number;
  /** Last generation that was given to a collection; left out: 0. */
  readonly lastGeneration?: number;
  /** A collection that a rebuild fills beside the one that is searched. */
  readonly building?: number;
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
  const {
    revision: _revision,
    autoIndex: _auto,
    nextIndex,
    generation: _generation,
    lastGeneration: _last,
    building,
    defaultTtlMs,
    ...facts
  } = record;
  const isRebuilt = nextIndex !== undefined || building !== undefined;
  const state = isRebuilt ? "rebuilding" : "ready";
  return {
    ...facts,
    defaultTtlMs: defaultTtlMs ?? undefined,
    state: isClosed ? "closed" : state,
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
  /** As stored. */
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
    attributes: view === "basic" ? {} : attributesFrom(row.attributes ?? {}),
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

/** The name of a collection of a gallery; its first one has no generation in it. */
export function collectionOf(
  deployment: string,
  number: number,
  generation = 0,
): string {
  const name = `reid_${deployment}_${number}`;
  return generation === 0 ? name : `${name}_${generation}`;
}

/** The collections that every write has to come to: the one that is searched first. */
export function livingCollections(
  deployment: string,
  number: number,
  { generation = 0, building }: Pick<ScaledRecord, "generation" | "building">,
): readonly string[] {
  const generations = [
    generation,
    ...(building === undefined ? [] : [building]),
  ];
  return generations.map((one) => collectionOf(deployment, number, one));
}

/** The collections that are nobody's any more, or a dead server's: all but the one that is searched. */
export function strayCollections(
  deployment: string,
  number: number,
  {
    generation = 0,
    lastGeneration = 0,
  }: Pick<ScaledRecord, "generation" | "lastGeneration">,
): readonly string[] {
  return Array.from({ length: lastGeneration - generation }, (_, i) =>
    collectionOf(deployment, number, generation + 1 + i),
  );
}
