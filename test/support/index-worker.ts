// A worker with indexes of its own: lives through every kind, and posts what it found.
//
// workerData: { folder, rows, dimension, passed }; passed is the handle of another thread as it arrives here.
import { parentPort, workerData } from "node:worker_threads";

import { indexSpecs } from "./index-kinds.js";
import { liveOnce, type LifeOptions } from "./index-life.js";

type Given = Omit<LifeOptions, "spec"> & { readonly passed: object };

const { passed, ...given } = workerData as Given;
const found = [];
for (const spec of Object.values(indexSpecs))
  found.push(await liveOnce({ ...given, spec }));
parentPort?.postMessage({ found, passed: Object.keys(passed) });
