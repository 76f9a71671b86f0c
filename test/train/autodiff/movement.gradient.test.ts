import { describe, test } from "node:test";
import { int, ints } from "#onnx/builder";
import { type MovementOp, movementRules } from "#train/autodiff/movement";

import {
  checkGradient,
  float32,
  int64,
  type GradientCase,
} from "../../support/gradient-check.js";

const x = { dims: [2, 3, 4] };
const slice = (
  title: string,
  bounds: readonly (readonly number[])[],
  output: readonly number[],
): GradientCase => ({
  title,
  inputs: [x, ...bounds.map((list) => int64(list))],
  outputs: [output],
});

const cases: Readonly<Record<MovementOp, readonly GradientCase[]>> = {
  Reshape: [
    { title: "to a matrix", inputs: [x, int64([6, -1])], outputs: [[6, 4]] },
  ],
  Flatten: [{ title: "axis 1", inputs: [x], outputs: [[2, 12]] }],
  Squeeze: [
    {
      title: "axis 1",
      inputs: [{ dims: [2, 1, 4] }, int64([1])],
      outputs: [[2, 4]],
    },
  ],
  Unsqueeze: [
    {
      title: "outer axes",
      inputs: [x, int64([0, 4])],
      outputs: [[1, 2, 3, 4, 1]],
    },
  ],
  Transpose: [
    { title: "reversed", inputs: [x], outputs: [[4, 3, 2]] },
    {
      title: "rotated",
      inputs: [x],
      outputs: [[3, 4, 2]],
      attributes: { perm: ints(1, 2, 0) },
    },
  ],
  Concat: [
    {
      title: "three parts along the last axis",
      inputs: [x, { dims: [2, 3, 1] }, { dims: [2, 3, 2] }],
      outputs: [[2, 3, 7]],
      attributes: { axis: int(-1) },
    },
  ],
  Split: [
    {
      title: "given lengths",
      inputs: [x, int64([1, 2])],
      outputs: [
        [2, 1, 4],
        [2, 2, 4],
      ],
      attributes: { axis: int(1) },
    },
    {
      title: "even",
      inputs: [x],
      outputs: [
        [2, 3, 2],
        [2, 3, 2],
      ],
      attributes: { axis: int(2) },
    },
  ],
  Slice: [
    slice("one axis", [[1], [3], [1]], [2, 2, 4]),
    slice(
      "two axes, from the end",
      [
        [0, -3],
        [2, 2147483647],
        [1, 2],
      ],
      [2, 2, 3],
    ),
    slice("step 2", [[1], [4], [2], [2]], [2, 3, 2]),
    slice("step 3, one left", [[0], [1], [2], [3]], [2, 3, 1]),
    slice(
      "no axes given",
      [
        [0, 1],
        [1, 3],
      ],
      [1, 2, 4],
    ),
  ],
  Gather: [
    {
      title: "one index, axis dropped",
      inputs: [x, int64([1], [])],
      outputs: [[2, 4]],
      attributes: { axis: int(1) },
    },
    {
      title: "last index, from the end",
      inputs: [x, int64([-1], [])],
      outputs: [[2, 3]],
      attributes: { axis: int(2) },
    },
    {
      title: "repeated indices",
      inputs: [x, int64([2, 0, 2])],
      outputs: [[2, 3, 4]],
      attributes: { axis: int(1) },
    },
    {
      title: "matrix of indices",
      inputs: [{ dims: [5, 3] }, int64([4, 0, 1, 4], [2, 2])],
      outputs: [[2, 2, 3]],
    },
  ],
  Expand: [
    {
      title: "stretched axis",
      inputs: [{ dims: [2, 1, 4] }, int64([2, 3, 4])],
      outputs: [[2, 3, 4]],
    },
    {
      title: "new axis",
      inputs: [{ dims: [3, 1] }, int64([2, 3, 4])],
      outputs: [[2, 3, 4]],
    },
  ],
  Pad: [
    {
      title: "zeros",
      inputs: [x, int64([0, 1, 0, 0, 2, 3])],
      outputs: [[2, 6, 7]],
    },
    {
      title: "a constant",
      inputs: [x, int64([1, 0, 0, 0, 0, 0]), float32([0.5], [])],
      outputs: [[3, 3, 4]],
    },
  ],
  Tile: [
    { title: "two axes", inputs: [x, int64([1, 2, 3])], outputs: [[2, 6, 12]] },
  ],
  DepthToSpace: [
    {
      title: "blocks of 2",
      inputs: [{ dims: [2, 8, 2, 3] }],
      outputs: [[2, 2, 4, 6]],
      attributes: { blocksize: int(2) },
    },
  ],
  SpaceToDepth: [
    {
      title: "blocks of 2",
      inputs: [{ dims: [2, 2, 4, 6] }],
      outputs: [[2, 8, 2, 3]],
      attributes: { blocksize: int(2) },
    },
  ],
};

describe("gradients of movement operators equal central differences", () => {
  for (const opType of Object.keys(movementRules) as MovementOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
