import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { faissMissing } from "#index/faiss";

import { inFolder } from "../support/galleries.js";

const minutes = Number(process.env["REID_LEAK_MINUTES"] ?? "0.33");
const skip =
  faissMissing()?.message ??
  (process.platform === "linux" ? false : "memory is read from /proc");
const loop = fileURLToPath(
  new URL("../support/index-leak.js", import.meta.url),
);

// Over the whole run, however long: the longer, the smaller the leak that shows. What V8 and malloc keep for
// themselves moves by less than this once they are warm.
const mostGrowth = 2 * 2 ** 20;
// Of the rounds, at least: until then caches, compiled code and malloc's free lists fill.
const warmUp = 0.4;
const leastRounds = 40;

interface Run {
  readonly rounds: number;
  /** Bytes over the rounds after the warm-up. */
  readonly growth: number;
  /** Different counts of open files, and of threads, after the warm-up. */
  readonly files: number;
  readonly threads: number;
}

/** The median slope of all pairs (Theil and Sen): a step that comes once is no slope. */
function slopeOf(values: readonly number[]): number {
  const slopes: number[] = [];
  for (let i = 0; i < values.length; i++)
    for (let j = i + 1; j < values.length; j++)
      slopes.push((values[j] - values[i]) / (j - i));
  slopes.sort((a, b) => a - b);
  return slopes[slopes.length >> 1];
}

async function run(seconds: number, ...more: readonly string[]): Promise<Run> {
  return inFolder(async (folder) => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        "--expose-gc",
        "--max-semi-space-size=1",
        loop,
        folder,
        String(seconds),
        String(leastRounds),
        ...more,
      ],
      // One arena: threads that come by turns would fill as many as there are.
      { env: { ...process.env, MALLOC_ARENA_MAX: "1" }, maxBuffer: 2 ** 26 },
    );
    const lines = stdout.trim().split("\n");
    const warm = lines.slice(Math.floor(lines.length * warmUp));
    // At most a thousand samples: pairs grow by the square.
    const step = Math.ceil(warm.length / 1000);
    const samples = warm.map((line) => line.split(" ").map(Number));
    const thinned = samples.filter((_, i) => i % step === 0);
    return {
      rounds: lines.length,
      growth: Math.round(
        slopeOf(thinned.map(([bytes]) => bytes)) * (thinned.length - 1),
      ),
      files: new Set(samples.map(([, files]) => files)).size,
      threads: new Set(samples.map(([, , threads]) => threads)).size,
    };
  });
}

describe("memory of indexes", { skip }, () => {
  test(
    `is flat over ${minutes} minutes of every call on every kind`,
    { skip: minutes > 0 ? false : "REID_LEAK_MINUTES is 0" },
    async (context) => {
      const { rounds, growth, files, threads } = await run(minutes * 60);
      context.diagnostic(`${rounds} rounds, ${growth} bytes`);
      assert.ok(growth < mostGrowth, `${growth} bytes in ${rounds} rounds`);
      assert.deepEqual({ files, threads }, { files: 1, threads: 1 });
    },
  );

  test(
    "is not flat where handles stay open: the measure finds a leak",
    { skip: minutes > 0 ? false : "REID_LEAK_MINUTES is 0" },
    async () => {
      const { growth } = await run(0, "keep");
      assert.ok(growth > 2 * mostGrowth, `${growth} bytes`);
    },
  );
});
