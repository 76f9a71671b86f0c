import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type EpochRecord, MetricsLog, readMetrics } from "#train/metrics-log";

const epoch = (number: number): EpochRecord => ({
  kind: "epoch",
  epoch: number,
  phase: "adaptation",
  iterations: 1,
  meanLoss: 0.5,
  seconds: 1,
});

describe("MetricsLog", () => {
  let folder = "";
  before(async () => void (folder = await mkdtemp(join(tmpdir(), "metrics-"))));
  after(() => rm(folder, { recursive: true }));

  test("drops the lines of epochs that are about to be repeated", async () => {
    const log = await MetricsLog.open(folder, 0);
    await log.epoch(epoch(1));
    await log.epoch(epoch(2));
    const resumed = await MetricsLog.open(folder, 1);
    assert.deepEqual(resumed.epochs, [epoch(1)]);
    assert.deepEqual(await readMetrics(folder), [epoch(1)]);
  });

  test(
    "says that the disk is full, and of which file",
    { skip: !existsSync("/dev/full") && "there is no /dev/full here" },
    async () => {
      const log = await MetricsLog.open(folder, 0);
      const path = join(folder, "metrics.jsonl");
      await rm(path);
      await symlink("/dev/full", path);
      await assert.rejects(log.epoch(epoch(1)), {
        code: "DISK_FULL",
        facts: { path, cause: "ENOSPC" },
      });
    },
  );
});
