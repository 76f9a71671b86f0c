import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";

import {
  featureNamed,
  inFolder,
  openGalleries,
  SteppedClock,
} from "../support/galleries.js";
import { faultsMissing } from "../support/torture-faults.js";
import { assertSound, judge } from "../support/torture-judge.js";
import { TortureModel } from "../support/torture-model.js";
import { keeper, timeOf, tortureDimension } from "../support/torture-plan.js";
import { markOf } from "../support/torture-receipts.js";
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

test("a restore that never took effect is not taken for one that did where only updates lie between", () =>
  inFolder(async (folder) => {
    const model = new TortureModel();
    const gallery = "flat";
    const open = await openGalleries(join(folder, "data"), {
      clock: new SteppedClock(timeOf(1)),
    });
    const flat = await open.galleries.create({
      name: gallery,
      model: { name: "external", version: 1 },
      dimension: tortureDimension,
    });
    model.apply({ lane: keeper, operation: { kind: "create", gallery } }, 1);
    const item = {
      entryId: "e0-1",
      version: "e0-1/1/0",
      identity: "p0-1",
      cameraId: "c0-1",
    };
    const { version, ...fields } = item;
    const feature = featureNamed(version, tortureDimension);
    const { results } = await flat.enroll([{ ...fields, feature }]);
    model.apply(
      {
        lane: 0,
        operation: {
          ...{ kind: "enroll", gallery, onExisting: "fail" },
          items: [item],
        },
      },
      1,
      { results },
    );
    model.noteBackup("b1", 2, new Map());
    const entryIds = [item.entryId];
    const changes = { cameraId: "c0-2" };
    await flat.updateEntries(
      { entryIds },
      { ...changes, trackId: markOf(0, 3) },
    );
    model.apply(
      {
        lane: 0,
        operation: { kind: "update", gallery, chosen: { entryIds }, changes },
      },
      3,
    );
    await open.close();
    const verdict = await judge({
      ...{ folder, model, step: 4, seed },
      open: [
        {
          lane: keeper,
          operation: { kind: "restore", backupId: "b1", receipts: {} },
        },
      ],
      acknowledged: new Map(),
    });
    assertSound(verdict, "after an unanswered restore");
  }));

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
