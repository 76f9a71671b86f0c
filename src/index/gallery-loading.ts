import type { Log } from "#core/log";
import { StoreCorruptError } from "#core/store-errors";

import { SnapshotCorruptError } from "./errors.js";
import type { GalleryContext } from "./gallery-context.js";
import { GalleryIndex, type IndexFactory } from "./gallery-index.js";
import { catchUp } from "./gallery-rebuild.js";
import { keysOfGallery, type GalleryRecord } from "./gallery-records.js";
import { GalleryRows } from "./gallery-rows.js";
import {
  GallerySnapshots,
  snapshotFolder,
  type SnapshotState,
} from "./gallery-snapshots.js";
import { deleteSnapshots, loadSnapshot } from "./snapshot.js";
import { isEntryRecord } from "./stored-records.js";
import { Turns } from "./turns.js";
import type { VectorIndex } from "./vector-index.js";

/** Entries decoded in one turn of the main thread. */
const decodedAtOnce = 256;

/** Every entry of a gallery, from the store. @throws {StoreCorruptError} one of them is none */
async function loadRows(
  { tables, store }: GalleryContext,
  record: GalleryRecord,
): Promise<GalleryRows> {
  const rows = new GalleryRows();
  const turns = new Turns(decodedAtOnce);
  for (const { key, value } of tables.entries.range(
    keysOfGallery(record.number),
  )) {
    const sequence = typeof key === "object" ? Number(key[1]) : NaN;
    if (!Number.isSafeInteger(sequence) || !isEntryRecord(value))
      throw new StoreCorruptError(
        store.folder,
        `entry ${sequence} of gallery "${record.name}" is damaged`,
      );
    rows.add({ featureId: sequence, ...value, sequence });
    if (turns.isOver) await turns.next();
  }
  return rows;
}

/** Where an index comes from at start. */
interface LoadOptions {
  readonly snapshots: string;
  readonly factory: IndexFactory;
  readonly log: Pick<Log, "info" | "warn">;
  /** Whether snapshots can be read: not without the addon. */
  readonly hasSnapshots: boolean;
}

/** The index of a gallery: its newest snapshot, or an empty one; `catchUp` is still to come. */
async function loadIndex(
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
    if (facts.sequence < (record.forgottenSequence ?? 0)) {
      await index.close();
      await deleteSnapshots(snapshots);
      log.info("snapshot holds what has been forgotten, rebuilding", {
        gallery: record.name,
      });
      return empty();
    }
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

/** What a gallery consists of once it is loaded. */
export interface GalleryParts {
  readonly rows: GalleryRows;
  readonly index: GalleryIndex;
  readonly snapshots: GallerySnapshots;
  readonly indexBytes: number;
}

/** How often a start says how far an index is. */
const saidEveryMs = 5000;

/**
 * Reads a gallery's entries and brings its index to them; what takes long says in the log how far it is.
 *
 * @param onIndexed  told how many entries a snapshot did not have and the index now has, of how many
 */
export async function loadParts(
  context: GalleryContext,
  record: GalleryRecord,
  onIndexed: (count: number, of: number) => void = () => undefined,
): Promise<GalleryParts> {
  const { tables, factory, hasSnapshots, log, clock } = context;
  const folder = snapshotFolder(context.store, record);
  // The main thread decodes entries while the disk and FAISS's thread read the index.
  const [rows, { index: main, snapshot }] = await Promise.all([
    loadRows(context, record),
    loadIndex(record, {
      ...{ factory, log, hasSnapshots },
      snapshots: folder,
    }),
  ]);
  let done = 0;
  let saidMs = clock.monotonic();
  await catchUp(main, { rows, record, tables }, (count, of) => {
    done += count;
    onIndexed(count, of);
    if (clock.monotonic() - saidMs < saidEveryMs) return;
    saidMs = clock.monotonic();
    log.info("index is being built", { gallery: record.name, done, of });
  });
  const tail = factory({ kind: "flat" }, record.dimension);
  const index = new GalleryIndex(
    main,
    tail,
    (id) => rows.has(id),
    context.tail,
  );
  return {
    rows,
    index,
    snapshots: new GallerySnapshots(folder, snapshot),
    indexBytes: (await index.facts()).sizeBytes,
  };
}
