import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { randomStream } from "#core/random";
import { GroupSampler } from "../../src/train/sampler.js";

/** Labels × crops a label, cameras in turn. */
function balanced(labels: number, cropsEach: number, cameras: number) {
  const count = labels * cropsEach;
  return {
    labels: Int32Array.from({ length: count }, (_, i) =>
      Math.floor(i / cropsEach),
    ),
    cameras: Int32Array.from({ length: count }, (_, i) => 1 + (i % cameras)),
  };
}

describe("GroupSampler", () => {
  test("draws groups of four of one label, the three others from other cameras", () => {
    const input = balanced(10, 8, 4);
    const sampler = new GroupSampler(input, 16, randomStream(1, "test"));
    for (let i = 0; i < 50; i++) {
      const batch = sampler.next();
      assert.equal(batch.length, 16);
      for (let start = 0; start < 16; start += 4) {
        const [first, ...others] = batch.subarray(start, start + 4);
        for (const other of others) {
          assert.equal(input.labels[other], input.labels[first]);
          assert.notEqual(input.cameras[other], input.cameras[first]);
        }
        assert.equal(new Set(others).size, 3, "without replacement");
      }
    }
  });

  test("visits every label once a pass and drops the incomplete last batch", () => {
    const input = balanced(9, 4, 4);
    const sampler = new GroupSampler(input, 16, randomStream(1, "test"));
    const pass = [...sampler.next(), ...sampler.next()];
    const labels = new Set(pass.map((crop) => input.labels[crop]));
    assert.equal(labels.size, 8);
  });

  test("draws with replacement where fewer than four come from other cameras", () => {
    const input = balanced(1, 3, 3);
    const sampler = new GroupSampler(input, 64, randomStream(1, "test"));
    const [first, ...others] = sampler.next();
    assert.equal(others.length, 3);
    assert.ok(others.every((other) => other !== first));
  });

  test("falls back to the same camera where there is only one", () => {
    const input = balanced(2, 6, 1);
    const sampler = new GroupSampler(input, 8, randomStream(1, "test"));
    const batch = sampler.next();
    assert.equal(batch.length, 8);
    assert.equal(new Set(batch.subarray(0, 4)).size, 4);
  });

  test("takes a label with one crop once, and a short pass as the batch", () => {
    const input = {
      labels: Int32Array.of(0, 1, 2),
      cameras: Int32Array.of(1, 1, 2),
    };
    const sampler = new GroupSampler(input, 64, randomStream(1, "test"));
    assert.deepEqual([...sampler.next()].sort(), [0, 1, 2]);
    assert.deepEqual([...sampler.next()].sort(), [0, 1, 2]);
  });

  test("never draws a crop without a label, and is empty without any", () => {
    const cameras = Int32Array.of(1, 2, 1, 2);
    const labels = Int32Array.of(-1, 5, -1, 5);
    const sampler = new GroupSampler(
      { labels, cameras },
      64,
      randomStream(1, "test"),
    );
    assert.ok(sampler.next().every((crop) => labels[crop] === 5));
    const none = { labels: Int32Array.of(-1, -1), cameras };
    assert.ok(new GroupSampler(none, 64, randomStream(1, "test")).isEmpty);
  });

  test("draws the same batches from the same stream", () => {
    const input = balanced(12, 5, 3);
    const draw = () => {
      const sampler = new GroupSampler(input, 16, randomStream(7, "s", 3));
      return Array.from({ length: 9 }, () => [...sampler.next()]);
    };
    assert.deepEqual(draw(), draw());
  });
});
