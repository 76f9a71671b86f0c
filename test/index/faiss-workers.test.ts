import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { randomStream } from "#core/random";
import { FaissIndex, faissMissing } from "#index/faiss";

import { inFolder, unitFeatures } from "../support/galleries.js";
import { indexSpecs } from "../support/index-kinds.js";
import { liveOnce } from "../support/index-life.js";

const skip = faissMissing()?.message ?? false;
const dimension = 16;
const rows = unitFeatures(randomStream(32, "workers"), 300, dimension);
const lives = fileURLToPath(
  new URL("../support/index-worker.js", import.meta.url),
);
const load = fileURLToPath(
  new URL("../support/index-load.js", import.meta.url),
);
const calls = "search walk add update compact train save fail".split(" ");

const threads = (): number => readdirSync("/proc/self/task").length;

describe("indexes of several threads of Node", { skip }, () => {
  test("live beside one another, each with its own handle", () =>
    inFolder(async (folder) => {
      const passed = FaissIndex.create({ kind: "flat" }, dimension);
      await passed.add(Float64Array.of(1), rows.subarray(0, dimension));
      const given = { folder, rows, dimension };
      const workers = [1, 2].map(
        () => new Worker(lives, { workerData: { ...given, passed } }),
      );
      const answers = Promise.all(
        workers.map(async (worker) => {
          const [[answer]] = await Promise.all([
            once(worker, "message") as Promise<[unknown]>,
            once(worker, "exit"),
          ]);
          return answer;
        }),
      );
      const found = [];
      for (const spec of Object.values(indexSpecs))
        found.push(await liveOnce({ ...given, spec }));
      // A handle does not travel: what arrives has no method that could be called.
      const expected = { found, passed: ["spec", "dimension"] };
      assert.deepEqual(await answers, [expected, expected]);
      assert.equal((await passed.facts()).count, 1);
      await passed.close();
    }));

  for (const call of calls)
    test(`end with their worker, which is terminated in the middle of: ${call}`, () =>
      inFolder(async (folder) => {
        // A first one, for the threads that Node itself keeps.
        const counts: number[] = [];
        for (let round = 0; round < 4; round++) {
          const worker = new Worker(load, { workerData: [call, folder] });
          await once(worker, "message");
          await worker.terminate();
          counts.push(threads());
        }
        assert.equal(counts[3], counts[0]);
      }));

  for (const call of calls)
    test(`end with their process, which exits in the middle of: ${call}`, () =>
      inFolder((folder) => {
        for (let round = 0; round < 2; round++) {
          const { status, signal, stderr } = spawnSync(
            process.execPath,
            [load, call, folder],
            { encoding: "utf8" },
          );
          assert.deepEqual([status, signal], [7, null], stderr);
        }
        return Promise.resolve();
      }));
});
