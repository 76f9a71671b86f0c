import { describe, test } from "node:test";
import { int, ints } from "#onnx/builder";
import { type PoolingOp, poolingRules } from "#train/autodiff/pooling";

import {
  checkGradient,
  type GradientCase,
} from "../../support/gradient-check.js";

const apart = { dims: [2, 2, 6, 5], values: "apart" } as const;
const pool = (
  title: string,
  size: readonly number[],
  attributes: GradientCase["attributes"],
): GradientCase => ({
  title,
  inputs: [apart],
  outputs: [[2, 2, ...size]],
  attributes: attributes ?? {},
});
const windows: readonly GradientCase[] = [
  pool("2 × 2, stride 2", [3, 2], {
    kernel_shape: ints(2, 2),
    strides: ints(2, 2),
  }),
  pool("3 × 3, stride 2, padded, overlapping", [3, 3], {
    kernel_shape: ints(3, 3),
    strides: ints(2, 2),
    pads: ints(1, 1, 1, 1),
  }),
  pool("3 × 2, stride 1", [4, 4], { kernel_shape: ints(3, 2) }),
  pool("asymmetric padding", [3, 3], {
    kernel_shape: ints(2, 2),
    strides: ints(2, 2),
    pads: ints(0, 0, 0, 1),
  }),
];
const whole: readonly GradientCase[] = [
  { title: "all positions", inputs: [apart], outputs: [[2, 2, 1, 1]] },
];

const cases: Readonly<Record<PoolingOp, readonly GradientCase[]>> = {
  AveragePool: [
    ...windows,
    pool("padding counted", [3, 3], {
      kernel_shape: ints(3, 3),
      strides: ints(2, 2),
      pads: ints(1, 1, 1, 1),
      count_include_pad: int(1),
    }),
    pool("rounded up", [3, 3], {
      kernel_shape: ints(2, 2),
      strides: ints(2, 2),
      ceil_mode: int(1),
    }),
  ],
  MaxPool: [
    ...windows,
    pool("rounded up", [3, 3], {
      kernel_shape: ints(2, 2),
      strides: ints(2, 2),
      ceil_mode: int(1),
    }),
    pool("dilated", [4, 3], {
      kernel_shape: ints(2, 2),
      dilations: ints(2, 2),
    }),
  ],
  GlobalAveragePool: whole,
  GlobalMaxPool: whole,
};

describe("gradients of pooling operators equal central differences", () => {
  for (const opType of Object.keys(poolingRules) as PoolingOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
