import type { Log } from "#core/log";

import { SnapshotCorruptError } from "./errors.js";
import type { IndexFactory } from "./gallery-index.js";
import {
  keysOfGallery,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import { GalleryRows } from "./gallery-rows.js";
import type { SnapshotState } from "./gallery-snapshots.js";
import { loadSnapshot } from "./snapshot.js";
import { Turns } from "./turns.js";
import type { VectorIndex } from "./vector-index.js";

/** Entries decoded in one turn of the main thread. */
const decodedAtOnce = 256;

/** Every entry of a gallery, from the store. */
export async function loadRows(
  tables: GalleryTables,
  record: GalleryRecord,
): Promise<GalleryRows> {
  const rows = new GalleryRows();
  const turns = new Turns(decodedAtOnce);
  for (const { key, value } of tables.entries.range(
    keysOfGallery(record.number),
  )) {
    const sequence = typeof key === "object" ? Number(key[1]) : NaN;
    rows.add({ ...value, sequence });
    if (turns.isOver) await turns.next();
  }
  return rows;
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
): Promise<{ index: VectorIndex; snapshot: SnapshotState }> {
  const { snapshots, factory, log, hasSnapshots } = options;
  const empty = () => ({
    index: factory(record.index, record.dimension),
    snapshot: { sequence: 0, takenAtMs: undefined },
  });
  if (!hasSnapshots) return empty();
  try {
    const snapshot = await loadSnapshot(snapshots);
    if (snapshot === undefined) return empty();
    const { index, facts, takenAtMs } = snapshot;
    const wanted = JSON.stringify(record.index);
    if (
      index.dimension === record.dimension &&
      JSON.stringify({ ...index.spec }) === JSON.stringify(record.index)
    )
      return { index, snapshot: { sequence: facts.sequence, takenAtMs } };
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
