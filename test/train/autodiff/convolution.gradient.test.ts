import { describe, test } from "node:test";
import { int, ints, string } from "#onnx/builder";
import {
  type ConvolutionOp,
  convolutionRules,
} from "#train/autodiff/convolution";

import {
  checkGradient,
  type GradientCase,
} from "../../support/gradient-check.js";

const conv = (
  title: string,
  dims: readonly [readonly number[], readonly number[], readonly number[]],
  attributes: GradientCase["attributes"] = {},
): GradientCase => ({
  title,
  inputs: [{ dims: dims[0] }, { dims: dims[1] }],
  outputs: [dims[2]],
  attributes,
});

const cases: Readonly<Record<ConvolutionOp, readonly GradientCase[]>> = {
  Conv: [
    conv("1 × 1", [
      [2, 3, 5, 4],
      [4, 3, 1, 1],
      [2, 4, 5, 4],
    ]),
    conv(
      "1 × 1, stride 2",
      [
        [2, 3, 5, 4],
        [4, 3, 1, 1],
        [2, 4, 3, 2],
      ],
      { strides: ints(2, 2) },
    ),
    conv(
      "3 × 3, padded",
      [
        [2, 3, 5, 4],
        [4, 3, 3, 3],
        [2, 4, 5, 4],
      ],
      { pads: ints(1, 1, 1, 1) },
    ),
    conv(
      "3 × 3, wide",
      [
        [2, 2, 16, 8],
        [3, 2, 3, 3],
        [2, 3, 16, 8],
      ],
      { pads: ints(1, 1, 1, 1) },
    ),
    conv(
      "3 × 3, stride 2",
      [
        [2, 3, 6, 5],
        [4, 3, 3, 3],
        [2, 4, 3, 3],
      ],
      { pads: ints(1, 1, 1, 1), strides: ints(2, 2) },
    ),
    conv(
      "3 × 3, stride 2, a row left over",
      [
        [2, 3, 6, 6],
        [4, 3, 3, 3],
        [2, 4, 2, 2],
      ],
      { strides: ints(2, 2) },
    ),
    conv(
      "dilated",
      [
        [2, 2, 7, 6],
        [3, 2, 3, 3],
        [2, 3, 7, 6],
      ],
      { pads: ints(2, 2, 2, 2), dilations: ints(2, 2) },
    ),
    conv(
      "asymmetric padding",
      [
        [2, 2, 5, 5],
        [3, 2, 3, 2],
        [2, 3, 5, 6],
      ],
      { pads: ints(0, 1, 2, 1) },
    ),
    conv(
      "padding beyond the kernel",
      [
        [2, 2, 4, 4],
        [3, 2, 1, 1],
        [2, 3, 6, 6],
      ],
      { pads: ints(1, 1, 1, 1) },
    ),
    conv(
      "3 × 3, tiled",
      [
        [2, 64, 8, 4],
        [48, 64, 3, 3],
        [2, 48, 8, 4],
      ],
      { pads: ints(1, 1, 1, 1) },
    ),
    conv("3 × 3, tiled, without padding", [
      [1, 80, 6, 6],
      [80, 80, 3, 3],
      [1, 80, 4, 4],
    ]),
    conv(
      "groups",
      [
        [2, 4, 5, 4],
        [6, 2, 3, 3],
        [2, 6, 5, 4],
      ],
      { pads: ints(1, 1, 1, 1), group: int(2) },
    ),
    conv(
      "groups, stride 2",
      [
        [2, 4, 6, 4],
        [6, 2, 3, 3],
        [2, 6, 3, 2],
      ],
      { pads: ints(1, 1, 1, 1), group: int(2), strides: ints(2, 2) },
    ),
    conv(
      "depthwise",
      [
        [2, 4, 5, 4],
        [4, 1, 3, 3],
        [2, 4, 5, 4],
      ],
      { pads: ints(1, 1, 1, 1), group: int(4) },
    ),
    conv(
      "depthwise, stride 2",
      [
        [2, 4, 6, 4],
        [4, 1, 3, 3],
        [2, 4, 3, 2],
      ],
      { pads: ints(1, 1, 1, 1), group: int(4), strides: ints(2, 2) },
    ),
    conv(
      "rectangular, strides differ",
      [
        [2, 2, 7, 5],
        [3, 2, 2, 3],
        [2, 3, 3, 5],
      ],
      { strides: ints(2, 1), pads: ints(0, 1, 0, 1) },
    ),
    conv(
      "auto_pad SAME_UPPER",
      [
        [2, 2, 5, 5],
        [3, 2, 2, 2],
        [2, 3, 5, 5],
      ],
      { auto_pad: string("SAME_UPPER") },
    ),
    conv(
      "auto_pad SAME_LOWER, stride 2",
      [
        [2, 2, 6, 6],
        [3, 2, 3, 3],
        [2, 3, 3, 3],
      ],
      { auto_pad: string("SAME_LOWER"), strides: ints(2, 2) },
    ),
    {
      title: "bias",
      inputs: [{ dims: [2, 3, 5, 4] }, { dims: [4, 3, 3, 3] }, { dims: [4] }],
      outputs: [[2, 4, 3, 2]],
    },
  ],
};

describe("gradients of convolution operators equal central differences", () => {
  for (const opType of Object.keys(convolutionRules) as ConvolutionOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
