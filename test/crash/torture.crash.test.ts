import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";

import { faultsMissing } from "../support/torture-faults.js";
import { assertSound } from "../support/torture-judge.js";
import { randomMoment, Torture } from "../support/torture-run.js";
import {
  answeredCalls,
  doubtfulCalls,
  liveWithFault,
  pointsOf,
  scriptedCalls,
  spread,
} from "../support/torture-sweep.js";

const seed = Number(process.env["REID_TORTURE_SEED"] ?? "1");
const kills = Number(process.env["REID_TORTURE_KILLS"] ?? "10");
const points = Number(process.env["REID_TORTURE_POINTS"] ?? "6");

describe("a data folder whose process is killed", () => {
  test(`holds every acknowledged operation and none by half, ${kills} times at a random moment`, () =>
    Torture.over(async (torture) => {
      const random = randomStream(seed, "torture kills");
      let acknowledged = 0;
      for (let kill = 0; kill < kills; kill++) {
        const life = await torture.live({
          ...{ seed, mode: "random", steps: 1e6 },
          kill: randomMoment(random),
          onCopy: random.uniform() < 0.5,
        });
        const about = `seed ${seed}, kill ${kill}, ${torture.folder}: ${life.errors}`;
        assert.equal(life.signal, "SIGKILL", about);
        assert.deepEqual(life.refusals, [], about);
        assertSound(life.verdict, about);
        acknowledged += life.acknowledged;
      }
      assert.ok(acknowledged >= 3 * kills, `only ${acknowledged} operations`);
    }));
});

describe(
  "a data folder whose process ends at an exact call",
  { skip: faultsMissing() ?? false },
  () => {
    for (const does of ["kill", "torn"] as const)
      test(`is whole when the process is ${does === "kill" ? "killed before the call" : "killed with half of the call's bytes written"}`, async () => {
        const calls = await scriptedCalls(seed);
        const swept = spread(pointsOf(calls, does), points, seed);
        assert.equal(swept.length, points);
        for (const at of swept) {
          const life = await liveWithFault(seed, { does, at });
          const { call, path } = calls[at - 1];
          const about = `seed ${seed}, ${does} at ${at} (${call} ${path}): ${life.errors}`;
          assertSound(life.verdict, about);
          assert.deepEqual(life.refusals, [], about);
          // Threads take turns as they like: a run may have a few calls less than the one that was counted.
          assert.ok(life.signal === "SIGKILL" || life.isDone, about);
        }
      });
  },
);

describe(
  "a data folder on a disk that fails",
  { skip: faultsMissing() ?? false },
  () => {
    for (const [does, length] of [
      ["ENOSPC", 1],
      ["EIO", 1],
      ["EROFS", 1e9],
      ["done-EIO", 1],
    ] as const)
      test(`loses nothing when calls answer ${does} ${length === 1 ? "once" : "from one on for good"}`, async () => {
        const hit = does === "done-EIO" ? doubtfulCalls : answeredCalls;
        const calls = await scriptedCalls(seed, hit);
        for (const at of spread(pointsOf(calls, does), points, seed)) {
          const fault = { does, at, length, calls: hit };
          const life = await liveWithFault(seed, fault);
          const { call, path } = calls[at - 1];
          const about = `seed ${seed}, ${does} at ${at} (${call} ${path}): ${life.errors}`;
          assertSound(life.verdict, about);
          assert.equal(life.signal, null, about);
          for (const { code, message } of life.refusals)
            assert.notEqual(code, "NONE", `${about} ${message}`);
        }
      });
  },
);
