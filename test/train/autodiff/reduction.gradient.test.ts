import { describe, test } from "node:test";
import { int, ints } from "#onnx/builder";
import { type ReductionOp, reductionRules } from "#train/autodiff/reduction";

import {
  checkGradient,
  int64,
  type GradientCase,
} from "../../support/gradient-check.js";

const apart = { dims: [2, 3, 4], values: "apart" } as const;
const byAttribute: readonly GradientCase[] = [
  {
    title: "all axes",
    inputs: [apart],
    outputs: [[]],
    attributes: { keepdims: int(0) },
  },
  {
    title: "middle axis kept",
    inputs: [apart],
    outputs: [[2, 1, 4]],
    attributes: { axes: ints(1) },
  },
  {
    title: "last two axes dropped",
    inputs: [apart],
    outputs: [[2]],
    attributes: { axes: ints(-1, -2), keepdims: int(0) },
  },
];

const cases: Readonly<Record<ReductionOp, readonly GradientCase[]>> = {
  ReduceSum: [
    { title: "all axes", inputs: [apart], outputs: [[1, 1, 1]] },
    {
      title: "middle axis dropped",
      inputs: [apart, int64([1])],
      outputs: [[2, 4]],
      attributes: { keepdims: int(0) },
    },
    {
      title: "outer axes",
      inputs: [apart, int64([0, -1])],
      outputs: [[1, 3, 1]],
    },
    {
      title: "no axes, nothing to do",
      inputs: [apart, int64([])],
      outputs: [[2, 3, 4]],
      attributes: { noop_with_empty_axes: int(1) },
    },
  ],
  ReduceMean: byAttribute,
  ReduceMax: byAttribute,
  ReduceMin: byAttribute,
  ReduceL1: byAttribute,
  ReduceL2: byAttribute,
  ReduceSumSquare: byAttribute,
  ReduceLogSumExp: byAttribute,
};

describe("gradients of reduction operators equal central differences", () => {
  for (const opType of Object.keys(reductionRules) as ReductionOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
