import { describe, test } from "node:test";
import { int } from "#onnx/builder";
import { type ArithmeticOp, arithmeticRules } from "#train/autodiff/arithmetic";

import {
  checkGradient,
  float32,
  type GradientCase,
} from "../../support/gradient-check.js";

const plane = { dims: [2, 3, 4] };
const positive = { dims: [2, 3, 4], values: "positive" } as const;
const apart = { dims: [2, 3, 4], values: "apart" } as const;
const row = { dims: [3, 1] };
const positiveRow = { dims: [3, 1], values: "positive" } as const;
const one = (
  input: GradientCase["inputs"][number],
): readonly GradientCase[] => [
  { title: "elementwise", inputs: [input], outputs: [[2, 3, 4]] },
];
const two = (
  a: GradientCase["inputs"][number],
  b: GradientCase["inputs"][number],
  title: string,
): GradientCase => ({ title, inputs: [a, b], outputs: [[2, 3, 4]] });
const condition = {
  dataType: "bool",
  dims: [2, 3, 4],
  data: Uint8Array.from({ length: 24 }, (_, i) => (i % 3) & 1),
} as const;

const cases: Readonly<Record<ArithmeticOp, readonly GradientCase[]>> = {
  Add: [
    two(plane, plane, "same shape"),
    two(plane, row, "broadcast"),
    two({ dims: [4] }, plane, "broadcast left"),
  ],
  Sub: [two(plane, plane, "same shape"), two(plane, row, "broadcast")],
  Mul: [
    two(plane, plane, "same shape"),
    two(plane, row, "broadcast"),
    two({ dims: [] }, plane, "scalar"),
  ],
  Div: [
    two(plane, positive, "same shape"),
    two(plane, positiveRow, "broadcast"),
  ],
  Neg: one(plane),
  Abs: one(apart),
  Sqrt: one(positive),
  Reciprocal: one(positive),
  Pow: [
    two(positive, positive, "exponent of the same shape"),
    two(positive, { dims: [1], values: "positive" }, "trained exponent"),
    two(plane, float32([2], []), "square"),
    two(positive, float32([-1.5], []), "constant exponent"),
  ],
  Exp: one(plane),
  Log: one(positive),
  Min: [
    two(apart, { dims: [2, 3, 4] }, "two inputs"),
    {
      title: "three inputs",
      inputs: [apart, plane, float32([0.3], [])],
      outputs: [[2, 3, 4]],
    },
  ],
  Max: [
    two(apart, { dims: [2, 3, 4] }, "two inputs"),
    two(apart, float32([0.3], []), "against a constant"),
    {
      title: "broadcast",
      inputs: [apart, { dims: [1, 4] }],
      outputs: [[2, 3, 4]],
    },
  ],
  Sum: [
    {
      title: "three inputs, broadcast",
      inputs: [plane, row, plane],
      outputs: [[2, 3, 4]],
    },
  ],
  Where: [
    {
      title: "same shape",
      inputs: [condition, plane, plane],
      outputs: [[2, 3, 4]],
    },
    {
      title: "broadcast",
      inputs: [condition, row, plane],
      outputs: [[2, 3, 4]],
    },
  ],
  Clip: [
    {
      title: "both bounds",
      inputs: [apart, float32([-0.4], []), float32([0.3], [])],
      outputs: [[2, 3, 4]],
    },
    {
      title: "lower bound",
      inputs: [apart, float32([0], [])],
      outputs: [[2, 3, 4]],
    },
    {
      title: "upper bound",
      inputs: [apart, undefined, float32([0.3], [])],
      outputs: [[2, 3, 4]],
    },
  ],
  Identity: one(plane),
  Cast: [
    {
      title: "float32 to float32",
      inputs: [plane],
      outputs: [[2, 3, 4]],
      attributes: { to: int(1) },
    },
  ],
  Dropout: one(plane),
  Erf: one(plane),
  Sin: one(plane),
  Cos: one(plane),
};

describe("gradients of arithmetic operators equal central differences", () => {
  for (const opType of Object.keys(arithmeticRules) as ArithmeticOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
