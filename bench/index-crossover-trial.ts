// Flat and HNSW over the same growing rows, in one process: each query is asked of both, in turns.
import { systemClock } from "#core/clock";
import { randomStream } from "#core/random";
import { FaissIndex } from "#index/faiss";
import { flatSpec, hnswDefaults } from "#index/index-kinds";

import { gaussianIdentities } from "./gaussian-identities.js";
import { recallOf, ROWS_OF_IDENTITY, SPREAD } from "./index-data.js";
import { trialInput, trialResult } from "./trial.js";

/** What to measure. */
export interface CrossoverInput {
  /** D. */
  readonly dimension: number;
  /** Entries at which both are searched, rising; multiples of 20. */
  readonly sizes: readonly number[];
  readonly seed: number;
}

/** One kind at one size. */
export interface KindTimes {
  /** One query after another; ms, of which a fifth took less: what else the machine does is left out. */
  readonly oneMs: number;
  /** A query of a batch of 64; ms. */
  readonly batchMs: number;
  /** In memory, features included. */
  readonly bytesPerEntry: number;
}

/** Both kinds at one size. */
export interface CrossoverPoint {
  readonly entries: number;
  readonly flat: KindTimes;
  readonly hnsw: KindTimes;
  /** Of the 10 nearest, by HNSW. */
  readonly recall: number;
  /** Of the whole graph up to this size. */
  readonly buildS: number;
}

const NEAREST = 10;
const BATCH = 64;
const QUERIES = 256;
const ADDED_AT_ONCE = 1000;

const { monotonic } = systemClock;
const { dimension, sizes, seed } = trialInput<CrossoverInput>();

/** Rows of each identity: those of the gallery, and behind them one to search with. */
function rowsByIdentity(count: number): readonly Float32Array[][] {
  const { features, identities } = gaussianIdentities({
    instances: count * (ROWS_OF_IDENTITY + 1),
    centres: count,
    ...{ dimension, spread: SPREAD, seed },
  });
  const rows: Float32Array[][] = Array.from({ length: count }, () => []);
  identities.forEach((identity, i) => {
    rows[identity].push(features.subarray(i * dimension, (i + 1) * dimension));
  });
  return rows;
}

function joined(rows: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(rows.length * dimension);
  rows.forEach((row, i) => all.set(row, i * dimension));
  return all;
}

const most = sizes[sizes.length - 1] / ROWS_OF_IDENTITY;
const rows = rowsByIdentity(most);
const flat = FaissIndex.create(flatSpec, dimension);
const hnsw = FaissIndex.create(hnswDefaults, dimension);
const random = randomStream(seed, "crossover");
let held = 0;
let buildS = 0;

/** Adds the identities up to a size, in random order. */
async function grow(entries: number): Promise<void> {
  const fresh = rows
    .slice(held / ROWS_OF_IDENTITY, entries / ROWS_OF_IDENTITY)
    .flatMap((own) => own.slice(0, ROWS_OF_IDENTITY));
  const order = random.shuffle(Int32Array.from(fresh.keys()));
  for (let start = 0; start < order.length; start += ADDED_AT_ONCE) {
    const part = order.subarray(start, start + ADDED_AT_ONCE);
    const ids = Float64Array.from(part, (_, i) => held + start + i);
    const features = joined(Array.from(part, (i) => fresh[i]));
    await flat.add(ids, features);
    const started = monotonic();
    await hnsw.add(ids, features);
    buildS += (monotonic() - started) / 1000;
  }
  held = entries;
}

/** Queries of identities that are there, spread over them. */
function queriesOf(entries: number): Float32Array {
  const identities = entries / ROWS_OF_IDENTITY;
  return joined(
    Array.from({ length: QUERIES }, (_, q) => {
      const own = rows[Math.floor((q * identities) / QUERIES)];
      return own[ROWS_OF_IDENTITY];
    }),
  );
}

interface Asked {
  readonly times: number[];
  readonly hits: number[];
}

async function ask(
  index: FaissIndex,
  queries: Float32Array,
  { times, hits }: Asked,
): Promise<void> {
  const started = monotonic();
  const { ids } = await index.search(queries, { k: NEAREST });
  times.push(monotonic() - started);
  hits.push(...ids);
}

/** Asks both in turns, so many queries at once. */
async function askBoth(queries: Float32Array, atOnce: number) {
  const asked = {
    flat: { times: [], hits: [] } as Asked,
    hnsw: { times: [], hits: [] } as Asked,
  };
  const step = atOnce * dimension;
  for (let at = 0; at + step <= queries.length; at += step) {
    await ask(flat, queries.subarray(at, at + step), asked.flat);
    await ask(hnsw, queries.subarray(at, at + step), asked.hnsw);
  }
  return asked;
}

async function bytesPerEntry(index: FaissIndex): Promise<number> {
  const { sizeBytes, count } = await index.facts();
  return sizeBytes / count;
}

function fifth(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 5)];
}

const points: CrossoverPoint[] = [];
for (const entries of sizes) {
  await grow(entries);
  const queries = queriesOf(entries);
  // What was just built is not in the caches yet.
  await askBoth(queries.subarray(0, 16 * dimension), 1);
  const one = await askBoth(queries, 1);
  const batches: (typeof one)[] = [];
  for (let round = 0; round < 5; round++)
    batches.push(await askBoth(queries, BATCH));
  const timesOf = async (kind: "flat" | "hnsw", index: FaissIndex) => ({
    oneMs: fifth(one[kind].times),
    batchMs: fifth(batches.flatMap((asked) => asked[kind].times)) / BATCH,
    bytesPerEntry: await bytesPerEntry(index),
  });
  points.push({
    entries,
    flat: await timesOf("flat", flat),
    hnsw: await timesOf("hnsw", hnsw),
    recall: recallOf(one.hnsw.hits, one.flat.hits, NEAREST),
    buildS,
  });
}
trialResult(points);
