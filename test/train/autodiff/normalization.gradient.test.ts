import { describe, test } from "node:test";
import { float, int } from "#onnx/builder";
import {
  type NormalizationOp,
  normalizationRules,
} from "#train/autodiff/normalization";

import {
  checkGradient,
  float32,
  type GradientCase,
} from "../../support/gradient-check.js";

const x = { dims: [3, 2, 4, 3] };
const scale = { dims: [2], values: "positive" } as const;
const bias = { dims: [2] };
const mean = float32([0.1, -0.2]);
const variance = float32([0.8, 1.3]);
/** Crops 0, 2 and 4 are of one domain, 1, 3 and 5 of the other. */
const membership = float32([1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1], [2, 6]);
const domain = "reid.gradient";
const attributes = { epsilon: float(1e-5) };

const cases: Readonly<Record<NormalizationOp, readonly GradientCase[]>> = {
  BatchNormalization: [
    {
      title: "running statistics",
      inputs: [x, scale, bias, mean, variance],
      outputs: [[3, 2, 4, 3]],
    },
    {
      title: "running statistics, rank 2",
      inputs: [{ dims: [4, 2] }, scale, bias, mean, variance],
      outputs: [[4, 2]],
    },
    {
      title: "batch statistics",
      inputs: [x, scale, bias, mean, variance],
      outputs: [[3, 2, 4, 3], [2], [2]],
      attributes: { training_mode: int(1) },
    },
    {
      title: "batch statistics, rank 2",
      inputs: [{ dims: [6, 2] }, scale, bias, mean, variance],
      outputs: [[6, 2], [2], [2]],
      attributes: { training_mode: int(1) },
    },
  ],
  InstanceNormalization: [
    {
      title: "positions of each crop",
      inputs: [x, scale, bias],
      outputs: [[3, 2, 4, 3]],
    },
  ],
  LayerNormalization: [
    {
      title: "last axis",
      inputs: [
        { dims: [2, 3, 6] },
        { dims: [6], values: "positive" },
        { dims: [6] },
      ],
      outputs: [[2, 3, 6]],
    },
    {
      title: "last two axes",
      inputs: [
        { dims: [2, 3, 4] },
        { dims: [3, 4], values: "positive" },
        { dims: [3, 4] },
      ],
      outputs: [[2, 3, 4]],
      attributes: { axis: int(1) },
    },
    {
      title: "no bias",
      inputs: [{ dims: [2, 6] }, { dims: [6], values: "positive" }],
      outputs: [[2, 6]],
    },
  ],
  DomainBatchNormalization: [
    {
      title: "two domains",
      inputs: [
        { dims: [6, 3, 4, 2] },
        { dims: [2, 3], values: "positive" },
        { dims: [2, 3] },
        membership,
      ],
      outputs: [
        [6, 3, 4, 2],
        [2, 3],
        [2, 3],
      ],
      attributes,
      domain,
    },
    {
      title: "two domains, rank 2",
      inputs: [
        { dims: [6, 3] },
        { dims: [2, 3], values: "positive" },
        { dims: [2, 3] },
        membership,
      ],
      outputs: [
        [6, 3],
        [2, 3],
        [2, 3],
      ],
      attributes,
      domain,
    },
    {
      title: "one domain",
      inputs: [
        { dims: [4, 3, 2, 2] },
        { dims: [1, 3], values: "positive" },
        { dims: [1, 3] },
        float32([1, 1, 1, 1], [1, 4]),
      ],
      outputs: [
        [4, 3, 2, 2],
        [1, 3],
        [1, 3],
      ],
      attributes,
      domain,
    },
  ],
};

describe("gradients of normalization operators equal central differences", () => {
  for (const opType of Object.keys(normalizationRules) as NormalizationOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
