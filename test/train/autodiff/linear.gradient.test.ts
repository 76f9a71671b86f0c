import { describe, test } from "node:test";
import { float, int } from "#onnx/builder";
import { type LinearOp, linearRules } from "#train/autodiff/linear";

import {
  checkGradient,
  type GradientCase,
} from "../../support/gradient-check.js";

const gemm = (transA: number, transB: number): GradientCase => ({
  title: `transA ${transA}, transB ${transB}, alpha, beta, bias`,
  inputs: [
    { dims: transA ? [4, 3] : [3, 4] },
    { dims: transB ? [5, 4] : [4, 5] },
    { dims: [5] },
  ],
  outputs: [[3, 5]],
  attributes: {
    transA: int(transA),
    transB: int(transB),
    alpha: float(0.5),
    beta: float(2),
  },
});

const cases: Readonly<Record<LinearOp, readonly GradientCase[]>> = {
  MatMul: [
    {
      title: "matrices",
      inputs: [{ dims: [3, 4] }, { dims: [4, 5] }],
      outputs: [[3, 5]],
    },
    {
      title: "batch by batch",
      inputs: [{ dims: [2, 3, 4] }, { dims: [2, 4, 5] }],
      outputs: [[2, 3, 5]],
    },
    {
      title: "batch by matrix",
      inputs: [{ dims: [2, 3, 4] }, { dims: [4, 5] }],
      outputs: [[2, 3, 5]],
    },
    {
      title: "broadcast batch",
      inputs: [{ dims: [2, 1, 3, 4] }, { dims: [3, 4, 5] }],
      outputs: [[2, 3, 3, 5]],
    },
  ],
  Gemm: [
    gemm(0, 0),
    gemm(0, 1),
    gemm(1, 0),
    gemm(1, 1),
    {
      title: "no bias",
      inputs: [{ dims: [3, 4] }, { dims: [4, 5] }],
      outputs: [[3, 5]],
    },
  ],
};

describe("gradients of linear operators equal central differences", () => {
  for (const opType of Object.keys(linearRules) as LinearOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
