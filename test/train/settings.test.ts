import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configKeys } from "#core/config";
import { settingsFromOptions } from "../../src/train/settings-from-options.js";
import type { RunFacts, TrainOptions } from "../../src/train/settings.js";

const facts: RunFacts = {
  encoder: "resnet50",
  pretrained: true,
  heightPx: 256,
  widthPx: 128,
  sourceCrops: 0,
  targetCrops: 12_936,
};
const usl: TrainOptions = { target: "t", out: "o" };

describe("settingsFromOptions", () => {
  test("takes the article's recipe for the preset paper", () => {
    const settings = settingsFromOptions({ ...usl, preset: "paper" }, facts);
    assert.deepEqual(
      [settings.mode, settings.epochs, settings.iterations, settings.batchSize],
      ["usl", 50, 400, 64],
    );
    assert.equal(settings.learningRate, 3.5e-4);
    assert.equal(settings.learningRateSchedule, "step");
    assert.equal(settings.clusterCentre, "none");
    assert.equal(settings.chooseClustering, false);
    assert.equal(settings.refreshMemory, "off");
    assert.equal(settings.featureBias, "frozen");
    assert.equal(settings.padPx, 10);
    assert.deepEqual(settings.clustering, {
      k1: 30,
      k2: 6,
      eps: 0.6,
      epsGap: 0.02,
      minSamples: 4,
    });
  });

  test("chooses a run that fits a small target under the preset auto", () => {
    const settings = settingsFromOptions(usl, { ...facts, targetCrops: 592 });
    assert.deepEqual([settings.epochs, settings.iterations], [20, 20]);
    assert.equal(settings.refreshMemory, "average");
    assert.equal(settings.chooseClustering, true);
    assert.equal(settings.clusterCentre, "camera");
    assert.equal(settings.learningRateSchedule, "late-cosine");
  });

  test("warms up where no weights were given", () => {
    const settings = settingsFromOptions(
      { ...usl, source: "s" },
      { ...facts, pretrained: false, targetCrops: 640 },
    );
    assert.equal(settings.mode, "uda");
    assert.equal(settings.refreshMemory, "average");
    assert.equal(settings.epochs, 30);
    assert.equal(settings.warmupEpochs, 8);
    assert.equal(settings.domainSpecificBatchNorm, true);
  });

  test("switches the choice off where any clustering value is given", () => {
    const settings = settingsFromOptions({ ...usl, k1: 12 }, facts);
    assert.equal(settings.chooseClustering, false);
    assert.deepEqual([settings.clustering.k1, settings.clustering.k2], [12, 3]);
  });

  test("takes k1 from the range that the online memory has", () => {
    const expected = ["train.k1", "memory.k1"].map(
      (path) => configKeys().find((key) => key.path === path)?.expected,
    );
    assert.deepEqual(expected, Array(2).fill("whole number from 2 to 1000"));
    const { clustering } = settingsFromOptions({ ...usl, k1: 2 }, facts);
    assert.equal(clustering.k1, 2);
  });

  const refusals: readonly (readonly [Partial<TrainOptions>, RegExp])[] = [
    [{ epochs: 0 }, /^epochs is 0/],
    [{ batchSize: 1.5 }, /^batchSize is 1\.5/],
    [{ eps: 2 }, /^eps is 2/],
    [{ k1: 1 }, /^k1 is 1: /],
    [{ learningRate: Number.NaN }, /^learningRate is NaN/],
    [{ mode: "uda" }, /^source is missing/],
    [{ select: "best" }, /^select is best/],
    [{ publish: "models" }, /^name is missing/],
    [{ source: "s", epochs: 3, warmupEpochs: 3 }, /^warmupEpochs is 3/],
  ];
  for (const [options, message] of refusals)
    test(`refuses ${JSON.stringify(options)}`, () => {
      assert.throws(() => settingsFromOptions({ ...usl, ...options }, facts), {
        code: "CONFIG_INVALID",
        message,
      });
    });
});
