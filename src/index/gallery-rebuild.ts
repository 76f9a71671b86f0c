import {
  soundValue,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { GalleryRows } from "./gallery-rows.js";
import type { RebuildOptions } from "./gallery-types.js";
import { Turns } from "./turns.js";
import type { VectorIndex } from "./vector-index.js";

/** Where the entries of an index come from. */
export interface IndexSource {
  readonly rows: GalleryRows;
  readonly tables: GalleryTables;
  readonly record: Pick<GalleryRecord, "number" | "dimension">;
}

// About 8 MiB at a time for 2048 numbers.
const addedAtOnce = 1024;

/** Features read from the store in one turn of the main thread: some 200 µs at 2048 numbers each. */
const readAtOnce = 64;

/** What is left for the end, while writes wait. */
const fewEntries = 1024;

/** How often the entries that came meanwhile are caught up with before writes have to wait for the rest. */
const mostRounds = 10;

/** Ids that an index lacks and that it has too much. */
interface Difference {
  /** float64, rising. */
  readonly missing: Float64Array;
  readonly gone: Float64Array;
}

async function differenceOf(
  index: VectorIndex,
  rows: GalleryRows,
): Promise<Difference> {
  const turns = new Turns();
  const present = new Set<number>();
  const gone: number[] = [];
  for (const id of await index.ids()) {
    present.add(id);
    if (!rows.has(id)) gone.push(id);
    if (turns.isOver) await turns.next();
  }
  const missing = new Float64Array(rows.size);
  let count = 0;
  for (const id of rows.featureIds()) {
    if (!present.has(id)) missing[count++] = id;
    if (turns.isOver) await turns.next();
  }
  return {
    missing: missing.subarray(0, count),
    gone: Float64Array.from(gone),
  };
}

/** Adds entries by block; those deleted since they were listed are left out. A block is read while the one before is added. */
async function addMissing(
  index: VectorIndex,
  missing: Float64Array,
  { tables, record }: IndexSource,
  onAdded: (count: number) => void = () => undefined,
): Promise<void> {
  const { number, dimension } = record;
  // One buffer for all blocks: `add` has copied it when it returns its promise.
  const block = new Float32Array(
    Math.min(addedAtOnce, missing.length) * dimension,
  );
  const bytes = new Uint8Array(block.buffer);
  let adding: Promise<void> | undefined;
  try {
    for (let start = 0; start < missing.length; start += addedAtOnce) {
      const wanted = missing.subarray(start, start + addedAtOnce);
      const ids = new Float64Array(wanted.length);
      const turns = new Turns(readAtOnce);
      let count = 0;
      for (const id of wanted) {
        const feature = soundValue(tables.features, [number, id]);
        // One that is damaged or cut is left out: `check` names it, and a search cannot find it.
        if (feature?.byteLength === 4 * dimension) {
          bytes.set(feature, 4 * dimension * count);
          ids[count++] = id;
        }
        if (turns.isOver) await turns.next();
      }
      await adding;
      adding = index.add(
        ids.subarray(0, count),
        block.subarray(0, count * dimension),
      );
      // Waited for with the next block: until then its failure is nobody's surprise.
      adding.catch(() => undefined);
      onAdded(wanted.length);
    }
  } finally {
    // Also where something else failed: the index is not closed under it.
    await adding;
  }
}

/** Makes an index hold exactly the entries of the store: drops what is gone, adds what is missing. No write may be under way. */
export async function catchUp(
  index: VectorIndex,
  source: IndexSource,
  onAdded?: (count: number, of: number) => void,
): Promise<void> {
  const { missing, gone } = await differenceOf(index, source.rows);
  if (gone.length > 0) await index.remove(gone);
  await addMissing(index, missing, source, (count) =>
    onAdded?.(count, missing.length),
  );
}

/** How an index is built beside the living one. */
export interface BuildOptions extends RebuildOptions {
  /** Runs an action while the gallery's rows stay as they are. */
  readonly whileStill: <Result>(look: () => Promise<Result>) => Promise<Result>;
}

/**
 * Fills an index with the entries of the store, and with those that come meanwhile, until few are missing.
 *
 * @throws the signal's reason
 */
export async function buildBeside(
  fresh: VectorIndex,
  source: IndexSource,
  { signal, report, whileStill }: BuildOptions,
): Promise<void> {
  let done = 0;
  for (let round = 0; round < mostRounds; round++) {
    signal?.throwIfAborted();
    const { missing, gone } = await whileStill(() =>
      differenceOf(fresh, source.rows),
    );
    if (gone.length > 0) await fresh.remove(gone);
    if (round > 0 && missing.length <= fewEntries) return;
    const total = done + missing.length;
    report?.(done, total);
    await addMissing(fresh, missing, source, (count) => {
      done += count;
      report?.(done, total);
      signal?.throwIfAborted();
    });
  }
}
