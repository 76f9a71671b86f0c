// Lives through every kind of index again and again, and says after each round what the process holds.
//
//   node --expose-gc index-leak.js FOLDER SECONDS ROUNDS [keep]
//
// Ends when both are over. keep: leaves an index of each kind open every round, a leak to be found.
// A line a round: resident bytes, open files, threads.
import { readdirSync, readFileSync, writeSync } from "node:fs";

import { randomStream } from "#core/random";
import type { FaissIndex } from "#index/faiss";

import { unitFeatures } from "./galleries.js";
import { filledIndex, indexSpecs } from "./index-kinds.js";
import { liveOnce } from "./index-life.js";

const [folder, seconds, rounds, keep] = process.argv.slice(2);
const dimension = 32;
const rows = unitFeatures(randomStream(33, "leak"), 300, dimension);
const kept: FaissIndex[] = [];

function resident(): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(
    readFileSync("/proc/self/status", "utf8"),
  );
  return Number(kibibytes?.[1]) * 1024;
}

const end = performance.now() + Number(seconds) * 1000;
for (
  let round = 0;
  round < Number(rounds) || performance.now() < end;
  round++
) {
  for (const spec of Object.values(indexSpecs)) {
    await liveOnce({ spec, rows, dimension, folder });
    if (keep === "keep") kept.push(await filledIndex(spec, rows, dimension));
  }
  globalThis.gc?.();
  const files = readdirSync("/proc/self/fd").length;
  const threads = readdirSync("/proc/self/task").length;
  writeSync(1, `${resident()} ${files} ${threads}\n`);
}
