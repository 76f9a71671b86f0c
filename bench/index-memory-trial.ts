// What an HNSW index of ours holds resident above its features.
import { memoryUsage } from "node:process";
import { FaissIndex } from "#index/faiss";
import { hnswDefaults } from "#index/index-kinds";

import { readRows, type BenchFeatures } from "./index-data.js";
import { GRAPH, QUICKLY_LINKED } from "./index-libraries.js";
import { trialInput, trialResult } from "./trial.js";

/** Resident bytes of the index less those of its rows. */
export interface MemoryTrial {
  readonly aboveFeaturesBytes: number;
}

const ADDED_AT_ONCE = 1024;

const { rows: path, dimension } = trialInput<BenchFeatures>();
const rows = await readRows(path);
const count = rows.length / dimension;

async function filled(count: number): Promise<FaissIndex> {
  const index = FaissIndex.create(
    { ...hnswDefaults, ...GRAPH, efConstruction: QUICKLY_LINKED },
    dimension,
  );
  for (let first = 0; first < count; first += ADDED_AT_ONCE) {
    const size = Math.min(ADDED_AT_ONCE, count - first);
    await index.add(
      Float64Array.from({ length: size }, (_, i) => first + i),
      rows.subarray(first * dimension, (first + size) * dimension),
    );
  }
  return index;
}

// Node's compiled code and young generation, and the addon's threads, are there whatever an index holds.
await (await filled(4 * ADDED_AT_ONCE)).close();
const before = memoryUsage().rss;
const index = await filled(count);
const result: MemoryTrial = {
  aboveFeaturesBytes: memoryUsage().rss - before - rows.byteLength,
};
await index.close();
trialResult(result);
