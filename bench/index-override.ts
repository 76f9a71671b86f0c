// What replacing FAISS's distance loops at link time is worth: the same search with the library's loop and
// with ours, in one process, in turns.
import { randomStream } from "#core/random";
import { systemClock } from "#core/clock";
import { FaissIndex, distanceKernels, useDistanceKernel } from "#index/faiss";
import { hnswDefaults } from "#index/index-kinds";

import { benchSeed, isQuick, median, writeReport } from "./report.js";

const dimension = 512;
const count = isQuick ? 20_000 : 100_000;
const linked = isQuick ? 2_000 : 10_000;
const rounds = 15;
const best = distanceKernels().at(-1) ?? "baseline";

function features(rows: number): Float32Array {
  const random = randomStream(benchSeed, "bench index override");
  const values = new Float32Array(rows * dimension);
  for (let start = 0; start < values.length; start += dimension) {
    let sum = 0;
    for (let i = start; i < start + dimension; i++) {
      values[i] = random.uniform() - 0.5;
      sum += values[i] ** 2;
    }
    const length = Math.sqrt(sum);
    for (let i = start; i < start + dimension; i++) values[i] /= length;
  }
  return values;
}

function ids(rows: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, i) => i);
}

const rows = features(count);
const index = FaissIndex.create({ kind: "flat" }, dimension);
await index.add(ids(count), rows);
const times: Record<string, number[]> = { faiss: [], [best]: [] };
let sameHits = 0;
for (let round = 0; round < rounds; round++) {
  const query = rows.slice(round * dimension, (round + 1) * dimension);
  const found: string[] = [];
  for (const kernel of ["faiss", best]) {
    useDistanceKernel(kernel);
    const start = systemClock.monotonic();
    const { ids: hits } = await index.search(query, { k: 10 });
    times[kernel].push(systemClock.monotonic() - start);
    found.push(hits.join(" "));
  }
  if (found[0] === found[1]) sameHits++;
}
await index.close();

const builds: Record<string, number> = {};
for (const kernel of ["faiss", best]) {
  useDistanceKernel(kernel);
  const graph = FaissIndex.create(hnswDefaults, dimension);
  const start = systemClock.monotonic();
  await graph.add(ids(linked), rows.subarray(0, linked * dimension));
  builds[kernel] = systemClock.monotonic() - start;
  await graph.close();
}

const note = `${count} × ${dimension}, k = 10, clone ${best}, median of ${rounds}`;
await writeReport("index-override", [
  {
    figure: "exact search of one query, library's loop",
    value: median(times["faiss"]),
    unit: "ms",
    note,
  },
  {
    figure: "exact search of one query, ours",
    value: median(times[best]),
    unit: "ms",
    note,
  },
  {
    figure: "exact search, ratio",
    value: median(times["faiss"]) / median(times[best]),
    unit: "×",
    bar: "≥ 1.5",
    against: "libfaiss as Debian builds it",
    note,
  },
  {
    figure: "searches with the same hits",
    value: sameHits / rounds,
    unit: "share",
    bar: "= 1",
  },
  {
    figure: "HNSW build, ratio",
    value: builds["faiss"] / builds[best],
    unit: "×",
    against: "libfaiss as Debian builds it",
    note: `${linked} × ${dimension}, m 32, efConstruction 200`,
  },
]);
