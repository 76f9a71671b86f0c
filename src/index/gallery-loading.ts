import type { Log } from "#core/log";

import { SnapshotCorruptError } from "./errors.js";
import type { IndexFactory } from "./gallery-index.js";
import {
  featureFromBytes,
  keysOfGallery,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import { GalleryRows } from "./gallery-rows.js";
import { loadSnapshot } from "./snapshot.js";
import type { VectorIndex } from "./vector-index.js";

// About 8 MiB at a time for 2048 numbers.
const addedAtOnce = 1024;

/** Every entry of a gallery, from the store. */
export function loadRows(
  tables: GalleryTables,
  record: GalleryRecord,
): GalleryRows {
  const rows = new GalleryRows();
  for (const { key, value } of tables.entries.range(
    keysOfGallery(record.number),
  )) {
    const sequence = typeof key === "object" ? Number(key[1]) : NaN;
    rows.add({ ...value, sequence });
  }
  return rows;
}

/** Makes an index hold exactly the entries of the store: drops what is gone, adds what is missing. */
export async function catchUp(
  index: VectorIndex,
  rows: GalleryRows,
  { record, tables }: { record: GalleryRecord; tables: GalleryTables },
): Promise<void> {
  const present = new Set(await index.ids());
  const gone = [...present].filter((id) => rows.at(id) === undefined);
  if (gone.length > 0) await index.remove(Float64Array.from(gone));
  const missing: number[] = [];
  for (const { sequence } of rows.all())
    if (!present.has(sequence)) missing.push(sequence);
  const { number, dimension } = record;
  for (let start = 0; start < missing.length; start += addedAtOnce) {
    const ids: number[] = [];
    const features: Float32Array[] = [];
    for (const id of missing.slice(start, start + addedAtOnce)) {
      const bytes = tables.features.get([number, id]);
      // Deleted while a rebuild beside the living index was under way: the last round leaves it out.
      if (bytes === undefined) continue;
      ids.push(id);
      features.push(featureFromBytes(bytes));
    }
    const block = new Float32Array(ids.length * dimension);
    features.forEach((feature, i) => {
      block.set(feature, i * dimension);
    });
    await index.add(Float64Array.from(ids), block);
  }
}

/** Where an index comes from at start. */
export interface LoadOptions {
  readonly snapshots: string;
  readonly factory: IndexFactory;
  readonly log: Pick<Log, "info" | "warn">;
  /** Whether snapshots can be read: not without the addon. */
  readonly hasSnapshots: boolean;
}

/** The index of a gallery: its newest snapshot, or an empty one; `catchUp` is still to come. */
export async function loadIndex(
  record: GalleryRecord,
  options: LoadOptions,
): Promise<{ index: VectorIndex; snapshotSequence: number }> {
  const { snapshots, factory, log, hasSnapshots } = options;
  const empty = () => ({
    index: factory(record.index, record.dimension),
    snapshotSequence: 0,
  });
  if (!hasSnapshots) return empty();
  try {
    const snapshot = await loadSnapshot(snapshots);
    if (snapshot === undefined) return empty();
    const { index, facts } = snapshot;
    const wanted = JSON.stringify(record.index);
    if (
      index.dimension === record.dimension &&
      JSON.stringify({ ...index.spec }) === JSON.stringify(record.index)
    )
      return { index, snapshotSequence: facts.sequence };
    await index.close();
    log.warn("snapshot is of another index, rebuilding", {
      gallery: record.name,
      wanted,
    });
    return empty();
  } catch (error) {
    if (!(error instanceof SnapshotCorruptError)) throw error;
    log.warn(`${error.message}; rebuilding`, { gallery: record.name });
    return empty();
  }
}
