import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { freshShareAt, learningRateAt } from "../../src/train/schedule.js";

describe("learningRateAt", () => {
  test("falls to a tenth every twenty epochs by steps", () => {
    const at = (epoch: number) =>
      learningRateAt("step", 1, {
        epoch,
        iteration: 0,
        epochs: 50,
        iterations: 400,
      });
    assert.deepEqual([at(0), at(19)], [1, 1]);
    assert.ok(Math.abs(at(20) - 0.1) < 1e-12);
    assert.ok(Math.abs(at(49) - 0.01) < 1e-12);
  });

  test("falls from the first rate to one percent by the cosine, whatever the run's length", () => {
    for (const [epochs, iterations] of [
      [30, 40],
      [1, 7],
    ]) {
      const at = (epoch: number, iteration: number) =>
        learningRateAt("cosine", 2, { epoch, iteration, epochs, iterations });
      assert.equal(at(0, 0), 2);
      assert.ok(Math.abs(at(epochs - 1, iterations - 1) - 0.02) < 1e-12);
    }
  });

  test("holds the first rate for three quarters of the run under the late cosine", () => {
    const at = (epoch: number, iteration: number) =>
      learningRateAt("late-cosine", 2, {
        epoch,
        iteration,
        epochs: 20,
        iterations: 10,
      });
    assert.deepEqual([at(0, 0), at(14, 9)], [2, 2]);
    assert.ok(at(15, 1) < 2 && at(17, 0) < at(15, 1));
    assert.ok(Math.abs(at(19, 9) - 0.02) < 1e-12);
  });

  test("never falls where it is constant", () => {
    const at = { epoch: 29, iteration: 39, epochs: 30, iterations: 40 };
    assert.equal(learningRateAt("constant", 2, at), 2);
  });

  test("stays finite for a run of one iteration", () => {
    const at = { epoch: 0, iteration: 0, epochs: 1, iterations: 1 };
    assert.equal(learningRateAt("cosine", 1, at), 1);
  });
});

describe("freshShareAt", () => {
  test("is 0 before the first clustering, whose memory is fresh", () => {
    for (const refresh of ["off", "on", "average", "fade"] as const)
      assert.equal(freshShareAt(refresh, 0, 10), 0);
  });

  test("fades from nearly all to nearly nothing, and else stays", () => {
    const shares = (refresh: "off" | "on" | "average" | "fade") =>
      [1, 5, 9].map((epoch) => freshShareAt(refresh, epoch, 10).toFixed(1));
    assert.deepEqual(shares("fade"), ["0.9", "0.5", "0.1"]);
    assert.deepEqual(shares("average"), ["0.5", "0.5", "0.5"]);
    assert.deepEqual(shares("on"), ["1.0", "1.0", "1.0"]);
    assert.deepEqual(shares("off"), ["0.0", "0.0", "0.0"]);
  });
});
