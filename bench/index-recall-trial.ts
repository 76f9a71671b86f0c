// Every kind of index over the same rows.
import { systemClock } from "#core/clock";
import { FaissIndex } from "#index/faiss";
import {
  flatSpec,
  hnswDefaults,
  ivfDefaults,
  type IndexSpec,
} from "#index/index-kinds";

import { readRows, recallOf } from "./index-data.js";
import { median } from "./report.js";
import { trialInput, trialResult } from "./trial.js";

/** float32 files. */
export interface KindTrialInput {
  readonly rows: string;
  readonly queries: string;
  readonly dimension: number;
}

/** One kind. */
export interface KindTrial {
  readonly kind: string;
  /** Of the 10 nearest. */
  readonly recall: number;
  readonly oneMs: number;
  readonly sizeBytes: number;
  readonly buildS: number;
}

const NEAREST = 10;

const kinds: Readonly<Record<string, IndexSpec>> = {
  flat: flatSpec,
  "flat, f16": { ...flatSpec, storage: "f16" },
  "flat, int8": { ...flatSpec, storage: "int8" },
  HNSW: hnswDefaults,
  "HNSW, int8": { ...hnswDefaults, storage: "int8" },
  IVF: ivfDefaults,
  "IVF, product code": { ...ivfDefaults, pq: { segments: 64, bits: 8 } },
};

const { monotonic } = systemClock;
const { dimension, ...paths } = trialInput<KindTrialInput>();
const rows = await readRows(paths.rows);
const queries = await readRows(paths.queries);
let truth: readonly number[] | undefined;
const trials: KindTrial[] = [];
for (const [kind, spec] of Object.entries(kinds)) {
  const index = FaissIndex.create(spec, dimension);
  const ids = Float64Array.from(
    { length: rows.length / dimension },
    (_, i) => i,
  );
  const began = monotonic();
  await index.add(ids, rows);
  await index.train();
  const buildS = (monotonic() - began) / 1000;
  const times: number[] = [];
  const hits: number[] = [];
  for (let at = 0; at < queries.length; at += dimension) {
    const started = monotonic();
    const found = await index.search(queries.subarray(at, at + dimension), {
      k: NEAREST,
    });
    times.push(monotonic() - started);
    hits.push(...found.ids);
  }
  // The first kind is exact.
  truth ??= hits;
  const { sizeBytes } = await index.facts();
  const recall = recallOf(hits, truth, NEAREST);
  trials.push({ kind, recall, oneMs: median(times), sizeBytes, buildS });
  await index.close();
}
trialResult(trials);
