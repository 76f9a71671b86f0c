import type { Clock } from "#core/clock";

import { FaissIndex } from "./faiss.js";
import {
  flatSpec,
  hnswDefaults,
  ivfDefaults,
  type IndexKind,
  type IndexSpec,
} from "./index-kinds.js";
import { trainIfReady } from "./index-training.js";
import type { VectorIndex } from "./vector-index.js";

/** What is tried of each kind; a kind without a row does not compile. */
const candidates: Readonly<Record<IndexKind, readonly IndexSpec[]>> = {
  flat: [flatSpec],
  hnsw: [
    { ...hnswDefaults, m: 16, efSearch: 64 },
    hnswDefaults,
    { ...hnswDefaults, efSearch: 256 },
  ],
  ivf: [ivfDefaults],
};

/** How one index did on the features it was tried with. */
export interface Advice {
  readonly spec: IndexSpec;
  /** Share of the true 10 nearest that it found, [0, 1]. */
  readonly recallAt10: number;
  /** One query after another. */
  readonly queriesPerSecond: number;
  readonly buildSeconds: number;
  readonly bytesPerEntry: number;
}

/** Features to try indexes with; of unit norm. */
export interface AdviceData {
  readonly dimension: number;
  /** float32 [N, D]; what is searched. */
  readonly features: Float32Array;
  /** float32 [Q, D]; none of them among the features. */
  readonly queries: Float32Array;
}

const k = 10;
// About 8 MiB at a time for 2048 numbers.
const addedAtOnce = 1024;

/** How a trial is timed and followed. */
export interface AdviceOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Told before each kind is tried, and at the end. */
  readonly report: (doneCount: number, totalCount: number) => void;
}

/**
 * Builds every kind of index that the features are enough for, and searches it; times are of this machine, as it is loaded now.
 *
 * @throws {BindingMissingError} the addon is not built @throws the signal's reason
 */
export async function adviseIndex(
  data: AdviceData,
  { clock, signal, report }: AdviceOptions,
): Promise<readonly Advice[]> {
  const advice: Advice[] = [];
  let truth: Float64Array | undefined;
  const tried = Object.values(candidates).flat();
  for (const [i, spec] of tried.entries()) {
    report(i, tried.length);
    signal.throwIfAborted();
    const index = FaissIndex.create(spec, data.dimension);
    try {
      const buildSeconds = await build(index, data, { clock, signal });
      // With too few features to train it, it would be judged by the exact search that it does until then.
      if (!(await index.facts()).isTrained) continue;
      const { ids, seconds } = await searchAll(index, data, clock);
      // The first candidate is exact: its hits are the truth for all.
      truth ??= ids;
      const { count, sizeBytes } = await index.facts();
      advice.push({
        spec,
        recallAt10: overlap(ids, truth),
        queriesPerSecond: data.queries.length / data.dimension / seconds,
        buildSeconds,
        bytesPerEntry: sizeBytes / Math.max(1, count),
      });
    } finally {
      await index.close();
    }
  }
  report(tried.length, tried.length);
  return advice;
}

/** The fastest that finds enough; an exact one always does. */
export function recommended(
  advice: readonly Advice[],
  minRecall: number,
): Advice {
  return advice
    .filter(({ recallAt10 }) => recallAt10 >= minRecall)
    .reduce((best, one) =>
      one.queriesPerSecond > best.queriesPerSecond ? one : best,
    );
}

async function build(
  index: VectorIndex,
  { features, dimension }: AdviceData,
  { clock, signal }: Pick<AdviceOptions, "clock" | "signal">,
): Promise<number> {
  const started = clock.monotonic();
  const rows = features.length / dimension;
  for (let start = 0; start < rows; start += addedAtOnce) {
    signal.throwIfAborted();
    const end = Math.min(rows, start + addedAtOnce);
    await index.add(
      Float64Array.from({ length: end - start }, (_, i) => start + i),
      features.subarray(start * dimension, end * dimension),
    );
  }
  await trainIfReady(index);
  return (clock.monotonic() - started) / 1000;
}

async function searchAll(
  index: VectorIndex,
  { queries, dimension }: AdviceData,
  clock: Clock,
): Promise<{ readonly ids: Float64Array; readonly seconds: number }> {
  const count = queries.length / dimension;
  const ids = new Float64Array(count * k);
  const started = clock.monotonic();
  for (let q = 0; q < count; q++) {
    const query = queries.subarray(q * dimension, (q + 1) * dimension);
    ids.set((await index.search(query, { k })).ids, q * k);
  }
  // A stopped clock, as tests have, makes no division by zero.
  const seconds = Math.max((clock.monotonic() - started) / 1000, 1e-9);
  return { ids, seconds };
}

/** Share of the true nearest that were found; −1 fills rows that came back short on both sides. */
function overlap(ids: Float64Array, truth: Float64Array): number {
  let found = 0;
  let wanted = 0;
  for (let start = 0; start < truth.length; start += k) {
    const near = new Set(ids.subarray(start, start + k));
    for (const id of truth.subarray(start, start + k)) {
      if (id < 0) continue;
      wanted++;
      if (near.has(id)) found++;
    }
  }
  return wanted === 0 ? 1 : found / wanted;
}
