import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RandomStream, randomStream } from "#core/random";

describe("randomStream", () => {
  test("gives the same numbers for the same seed, name and keys", () => {
    const draw = () => {
      const stream = randomStream(1, "sampler", 3);
      return [stream.uint32(), stream.uint32(), stream.uint32()];
    };
    assert.deepEqual(draw(), draw());
  });

  test("gives other numbers for another name or key", () => {
    const first = [
      randomStream(1, "sampler", 3),
      randomStream(1, "sampler", 4),
      randomStream(1, "augment", 3),
      randomStream(2, "sampler", 3),
    ].map((stream) => stream.uint32());
    assert.equal(new Set(first).size, 4);
  });

  test("goes on from a saved state", () => {
    const stream = randomStream(5, "x");
    stream.uniform();
    const copy = new RandomStream(stream.state);
    assert.equal(stream.uniform(), copy.uniform());
  });

  test("is uniform: the mean and variance of many draws fit", () => {
    const stream = randomStream(7, "moments");
    let sum = 0;
    let squares = 0;
    const count = 100_000;
    for (let i = 0; i < count; i++) {
      const u = stream.uniform();
      assert.ok(u >= 0 && u < 1);
      sum += u;
      squares += u * u;
    }
    // five standard errors of the mean of 100,000 uniform numbers: 5 · 0.2887 / √100000
    assert.ok(Math.abs(sum / count - 0.5) < 0.0046);
    assert.ok(Math.abs(squares / count - 1 / 3) < 0.005);
  });

  test("draws a normal with mean 0 and deviation 1", () => {
    const stream = randomStream(7, "normal");
    const values = Array.from({ length: 50_000 }, () => stream.normal());
    const mean = values.reduce((a, b) => a + b) / values.length;
    const variance =
      values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
    assert.ok(Math.abs(mean) < 0.023);
    assert.ok(Math.abs(variance - 1) < 0.04);
  });

  test("shuffles and samples without losing or repeating an item", () => {
    const stream = randomStream(1, "order");
    const items = stream.shuffle(Int32Array.from({ length: 50 }, (_, i) => i));
    assert.deepEqual(
      [...items].sort((a, b) => a - b),
      [...Array(50).keys()],
    );
    const picked = stream.sample(10, 10);
    assert.equal(new Set(picked).size, 10);
    assert.equal(new Set(stream.sample(1000, 5)).size, 5);
  });
});
