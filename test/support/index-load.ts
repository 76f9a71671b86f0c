// An index kept busy with one kind of call until its worker is terminated or its process exits.
//
//   as a worker, workerData [CALL, FOLDER]: says "up" and goes on for ever
//   as a process, node index-load.js CALL FOLDER: exits with code 7 in the middle of calls
import { join } from "node:path";
import {
  isMainThread,
  parentPort,
  threadId,
  workerData,
} from "node:worker_threads";

import { randomStream } from "#core/random";
import type { FaissIndex } from "#index/faiss";

import { unitFeatures } from "./galleries.js";
import { filledIndex, idsFrom, indexSpecs } from "./index-kinds.js";

const dimension = 32;
const rows = unitFeatures(randomStream(31, "load"), 2000, dimension);
const [name, folder] = isMainThread
  ? process.argv.slice(2)
  : (workerData as string[]);
const some = rows.subarray(0, 64 * dimension);

interface Load {
  /** A key of `indexSpecs`. */
  readonly spec: string;
  readonly call: (index: FaissIndex, round: number) => Promise<unknown>;
}

/** What keeps an index busy, by the call that is under way most of the time. */
const loads: Readonly<Record<string, Load>> = {
  search: {
    spec: "flat",
    call: (index) => index.search(some, { k: 10 }),
  },
  walk: {
    spec: "hnsw in f16",
    call: (index) => index.search(some, { k: 10 }),
  },
  add: {
    spec: "hnsw",
    call: (index, round) =>
      index.add(idsFrom(5000 + 64 * round, 5064 + 64 * round), some),
  },
  update: {
    spec: "ivf",
    call: (index) => index.update(idsFrom(0, 64), some),
  },
  compact: {
    spec: "hnsw in int8",
    call: async (index) => {
      await index.update(idsFrom(0, 64), some);
      await index.compact();
    },
  },
  train: {
    spec: "ivf with a product code",
    call: async () => {
      const index = await filledIndex(
        indexSpecs["ivf with a product code"],
        rows,
        dimension,
      );
      await index.train();
      await index.close();
    },
  },
  save: {
    spec: "ivf in f16",
    call: async (index, round) => {
      await index.save(join(folder, `${process.pid}-${threadId}-${round}`));
    },
  },
  fail: {
    spec: "flat in f16",
    call: (index) =>
      index.add(Float64Array.of(3), new Float32Array(1)).catch(() => undefined),
  },
};

const { spec, call } = loads[name];
const index = await filledIndex(indexSpecs[spec], rows, dimension);
await index.train();

let busy = (): void => {
  if (isMainThread) process.exit(7);
  parentPort?.postMessage("up");
  busy = () => undefined;
};

/** Four callers, so that calls wait while others run. */
async function goOn(lane: number): Promise<void> {
  for (let round = lane; ; round += 4) {
    await call(index, round);
    if (round >= 8) busy();
  }
}

await Promise.all([0, 1, 2, 3].map(goOn));
