import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  bytesFromCheckpoint,
  checkpointFromBytes,
  loadCheckpoint,
  saveCheckpoint,
  type Checkpoint,
} from "../../src/train/checkpoint.js";
import { settingsFromOptions } from "../../src/train/settings-from-options.js";

const checkpoint: Checkpoint = {
  settings: settingsFromOptions(
    { target: "t", out: "o" },
    {
      encoder: "resnet50",
      pretrained: true,
      heightPx: 256,
      widthPx: 128,
      sourceCrops: 0,
      targetCrops: 3,
    },
  ),
  epochsDone: 2,
  training: {
    step: 7,
    tensors: new Map([
      ["a", Float32Array.of(1.5, -0)],
      ["b", Float32Array.of(3)],
    ]),
  },
  memory: {
    sourceClasses: 1,
    dimension: 2,
    rows: Float32Array.of(1, 0, 0, 1),
    labels: Int32Array.of(0, -1),
  },
  clustering: { independenceThreshold: 0.25, k1: 12, k2: 3, eps: 0.55 },
  best: { epoch: 1, mAP: 0.5 },
};

describe("checkpoint", () => {
  test("reads back what it wrote, and the same state gives the same bytes", () => {
    const bytes = bytesFromCheckpoint(checkpoint);
    assert.deepEqual(checkpointFromBytes("x", bytes), checkpoint);
    assert.deepEqual(bytesFromCheckpoint(checkpoint), bytes);
  });

  test("refuses a file that is cut short or has one byte changed", () => {
    const bytes = bytesFromCheckpoint(checkpoint);
    const corrupt = { code: "CHECKPOINT_CORRUPT" };
    for (const length of [0, 7, 20, bytes.length - 1])
      assert.throws(
        () => checkpointFromBytes("x", bytes.subarray(0, length)),
        corrupt,
      );
    for (const at of [0, 9, 40, bytes.length - 40, bytes.length - 1]) {
      const changed = bytes.slice();
      changed[at] ^= 1;
      assert.throws(() => checkpointFromBytes("x", changed), corrupt);
    }
  });

  test("keeps the newest two of a run", async () => {
    const folder = await mkdtemp(join(tmpdir(), "checkpoint-"));
    try {
      assert.equal(await loadCheckpoint(folder), undefined);
      for (const epochsDone of [9, 10, 11])
        await saveCheckpoint(folder, { ...checkpoint, epochsDone });
      assert.deepEqual((await readdir(folder)).sort(), [
        "epoch-00010.checkpoint",
        "epoch-00011.checkpoint",
      ]);
      const newest = await loadCheckpoint(folder);
      assert.equal(newest?.checkpoint.epochsDone, 11);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
