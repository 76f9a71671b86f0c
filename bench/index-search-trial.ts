// One library searched from Node: the times of single queries and of batches of 64, and what it found.
import { systemClock } from "#core/clock";

import { readRows, recallOf } from "./index-data.js";
import { graphFile, libraries, type LibraryName } from "./index-libraries.js";
import { median } from "./report.js";
import { trialInput, trialResult } from "./trial.js";

/** Hits a query asks for in the whole bench. */
export const NEAREST = 10;

/** Queries of a batch. */
export const BATCH = 64;

/** What to search. */
export interface SearchTrialInput {
  readonly library: LibraryName;
  readonly rows: string;
  readonly queries: string;
  readonly dimension: number;
  /** [Q, 10] ids; with it the least of `efforts` that finds `recall` of them is timed. */
  readonly truth?: readonly number[];
  readonly efforts?: readonly number[];
  readonly recall?: number;
}

/** What came of it; times in ms. */
export interface SearchTrial {
  readonly oneMs: number;
  readonly batchMs: number;
  /** [Q, 10]. */
  readonly hits: readonly number[];
  /** efSearch; 0: exact. */
  readonly effort: number;
  readonly recall: number;
  /** Building or reading the index, s. */
  readonly openS: number;
}

const { monotonic } = systemClock;
const input = trialInput<SearchTrialInput>();
const { dimension } = input;
const queries = await readRows(input.queries);
const count = queries.length / dimension;
const opening = monotonic();
const library = await libraries[input.library](
  await readRows(input.rows),
  dimension,
  graphFile(input.rows, input.library),
);
const openS = (monotonic() - opening) / 1000;

function batch(first: number, size: number): Float32Array {
  return queries.subarray(first * dimension, (first + size) * dimension);
}

async function search(first: number, size: number): Promise<number[]> {
  return Array.from(await library.search(batch(first, size), NEAREST));
}

async function all(): Promise<number[]> {
  const hits: number[] = [];
  for (let q = 0; q < count; q++) hits.push(...(await search(q, 1)));
  return hits;
}

async function timed(sizes: number): Promise<number> {
  const times: number[] = [];
  for (let q = 0; q + sizes <= count; q += sizes) {
    const started = monotonic();
    await search(q, sizes);
    times.push(monotonic() - started);
  }
  return median(times);
}

let effort = 0;
let hits: number[] = [];
let recall = 1;
for (const tried of input.efforts ?? [0]) {
  if (tried > 0) await library.setEffort(tried);
  effort = tried;
  hits = await all();
  recall = input.truth === undefined ? 1 : recallOf(hits, input.truth, NEAREST);
  if (recall >= (input.recall ?? 0)) break;
}
const result: SearchTrial = {
  oneMs: await timed(1),
  batchMs: await timed(BATCH),
  hits,
  effort,
  recall,
  openS,
};
trialResult(result);
