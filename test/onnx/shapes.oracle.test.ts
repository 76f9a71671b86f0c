import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { float, GraphBuilder, int, ints, string } from "#onnx/builder";
import { checkGraph } from "#onnx/check";
import type {
  Attribute,
  DataType,
  Dimension,
  Model,
  Tensor,
} from "#onnx/graph";
import { writeModel } from "#onnx/model";
import { inferShapes } from "#onnx/shapes";
import { type OperatorName, operators } from "#onnx/operators";
import { createRunner } from "#train/engines/onnxruntime";
import { evaluateDims } from "../support/dimensions.js";

/** An input: a shape (float32, `B` the batch), a shape with a type, or a constant list of integers. */
type Input =
  | readonly Dimension[]
  | { readonly type: DataType; readonly dims: readonly Dimension[] }
  | { readonly ints: readonly number[]; readonly scalar?: true }
  | { readonly floats: readonly number[]; readonly scalar?: true }
  | null;

interface Case {
  readonly inputs: readonly Input[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly outputs?: number;
  readonly opset?: number;
}

const image: Input = ["B", 4, 9, 7];
const flat: Input = ["B", 6];
const one = (
  input: Input,
  attributes: Readonly<Record<string, Attribute>> = {},
  opset = 17,
): Case => ({ inputs: [input], attributes, opset });
const pair = (
  a: Input,
  b: Input,
  attributes: Readonly<Record<string, Attribute>> = {},
): Case => ({ inputs: [a, b], attributes });
const elementwise = [one(flat), one([])];
const broadcast = [pair(flat, [6]), pair(["B", 1, 3], [2, 1]), pair([], flat)];
const booleans = (dims: readonly Dimension[]): Input => ({
  type: "bool",
  dims,
});
const logic = [pair(booleans(["B", 6]), booleans([6]))];
const window = {
  kernel_shape: ints(3, 2),
  strides: ints(2, 2),
  pads: ints(1, 0, 1, 1),
};
const reductions: readonly Case[] = [
  one(image),
  one(image, { axes: ints(-1, 2), keepdims: int(0) }),
  one(image, { axes: ints(0), keepdims: int(1) }),
];
const channels: Input = [4];

const cases: Readonly<Record<OperatorName, readonly Case[]>> = {
  Abs: elementwise,
  Ceil: elementwise,
  Cos: elementwise,
  Erf: elementwise,
  Exp: elementwise,
  Floor: elementwise,
  Identity: elementwise,
  IsNaN: elementwise,
  Log: elementwise,
  Neg: elementwise,
  Reciprocal: elementwise,
  Relu: elementwise,
  Round: elementwise,
  Sigmoid: elementwise,
  Sign: elementwise,
  Sin: elementwise,
  Softplus: elementwise,
  Softsign: elementwise,
  Sqrt: elementwise,
  Tanh: elementwise,
  Celu: elementwise,
  Elu: elementwise,
  HardSigmoid: elementwise,
  LeakyRelu: elementwise,
  Selu: elementwise,
  ThresholdedRelu: elementwise,
  HardSwish: elementwise,
  Not: [one(booleans(["B", 2]))],
  Mish: [one(flat, {}, 18)],
  Gelu: [one(flat, {}, 20)],
  Cast: [
    one(flat, { to: int(7) }),
    one({ type: "int64", dims: ["B"] }, { to: int(1) }),
  ],
  CastLike: [pair(flat, { type: "int32", dims: [1] })],
  Clip: [
    {
      inputs: [
        flat,
        { floats: [0], scalar: true },
        { floats: [6], scalar: true },
      ],
    },
  ],
  Dropout: [{ inputs: [flat], outputs: 2 }],

  Add: broadcast,
  Div: broadcast,
  Mul: broadcast,
  Sub: broadcast,
  Max: broadcast,
  Mean: broadcast,
  Min: broadcast,
  Sum: broadcast,
  Equal: broadcast,
  Greater: broadcast,
  GreaterOrEqual: broadcast,
  Less: broadcast,
  LessOrEqual: broadcast,
  Pow: broadcast,
  And: logic,
  Or: logic,
  Xor: logic,
  Mod: [pair({ type: "int64", dims: ["B"] }, { ints: [3] })],
  PRelu: [pair(image, [4, 1, 1])],
  Where: [{ inputs: [booleans(["B", 1]), [1, 6], []] }],

  MatMul: [
    pair(flat, [6, 5]),
    pair(["B", 2, 3, 6], ["B", 1, 6, 5]),
    pair([6], [6, 5]),
    pair(["B", 4, 6], [6]),
    pair([6], [6]),
  ],
  Gemm: [
    pair(flat, [6, 5]),
    {
      inputs: [[6, "B"], [5, 6], [5]],
      attributes: { transA: int(1), transB: int(1) },
    },
  ],
  FusedMatMul: [
    pair(["B", 2, 3, 6], ["B", 2, 5, 6], { transB: int(1), alpha: float(0.5) }),
    pair(["B", 6, 3], ["B", 6, 5], { transA: int(1) }),
    pair([6, "B", 3], ["B", 3, 5], { transBatchA: int(1) }),
  ],

  Conv: [
    pair(image, [8, 4, 3, 3]),
    {
      inputs: [image, [8, 2, 3, 2], [8]],
      attributes: { ...window, group: int(2) },
    },
    pair(image, [8, 4, 3, 3], {
      dilations: ints(2, 2),
      pads: ints(2, 2, 2, 2),
    }),
    pair(image, [8, 4, 3, 3], {
      auto_pad: string("SAME_UPPER"),
      strides: ints(2, 3),
    }),
    pair(image, [8, 4, 3, 3], { auto_pad: string("VALID") }),
    pair(["B", 4, 9], [8, 4, 3]),
  ],
  ConvTranspose: [
    pair(image, [4, 8, 3, 3]),
    pair(image, [4, 3, 3, 2], {
      strides: ints(2, 3),
      pads: ints(1, 0, 1, 1),
      output_padding: ints(1, 2),
      group: int(2),
    }),
  ],
  AveragePool: [
    one(image, window),
    one(image, { ...window, ceil_mode: int(1), count_include_pad: int(1) }),
  ],
  MaxPool: [
    { inputs: [image], attributes: window, outputs: 2 },
    one(image, { ...window, ceil_mode: int(1) }),
    one(image, { kernel_shape: ints(2, 2), dilations: ints(2, 3) }),
  ],
  LpPool: [one(image, window)],
  GlobalAveragePool: [one(image)],
  GlobalLpPool: [one(image)],
  GlobalMaxPool: [one(image)],

  BatchNormalization: [
    { inputs: [image, channels, channels, channels, channels] },
    {
      inputs: [image, channels, channels, channels, channels],
      attributes: { training_mode: int(1) },
      outputs: 3,
    },
  ],
  GroupNormalization: [
    {
      inputs: [image, [4], [4]],
      attributes: { num_groups: int(2) },
      opset: 21,
    },
  ],
  InstanceNormalization: [{ inputs: [image, channels, channels] }],
  LayerNormalization: [
    { inputs: [["B", 5, 6], [6], [6]], outputs: 3 },
    {
      inputs: [
        ["B", 5, 6],
        [5, 6],
      ],
      attributes: { axis: int(1) },
    },
  ],
  LogSoftmax: [one(flat)],
  Softmax: [one(image, { axis: int(1) })],
  LpNormalization: [one(flat, { axis: int(1) })],
  LRN: [one(image, { size: int(3) })],
  MeanVarianceNormalization: [one(image)],

  ArgMax: [
    one(image, { axis: int(1) }),
    one(image, { axis: int(-1), keepdims: int(0) }),
  ],
  ArgMin: [one(image, { axis: int(1) })],
  CumSum: [pair(flat, { ints: [1], scalar: true })],
  ReduceL1: reductions,
  ReduceL2: reductions,
  ReduceLogSum: reductions,
  ReduceLogSumExp: reductions,
  ReduceMax: reductions,
  ReduceMean: [...reductions, { inputs: [image, { ints: [1, 3] }], opset: 18 }],
  ReduceMin: reductions,
  ReduceProd: reductions,
  ReduceSumSquare: reductions,
  ReduceSum: [
    pair(image, { ints: [0, 2] }, { keepdims: int(0) }),
    one(image),
    one(image, { noop_with_empty_axes: int(1) }),
  ],
  TopK: [{ inputs: [flat, { ints: [4] }], outputs: 2 }],

  Concat: [
    pair(flat, ["B", 3], { axis: int(1) }),
    pair(flat, [2, 6], { axis: int(0) }),
  ],
  DepthToSpace: [one(["B", 8, 3, 2], { blocksize: int(2) })],
  SpaceToDepth: [one(["B", 2, 6, 4], { blocksize: int(2) })],
  Expand: [pair(["B", 1], { ints: [1, 5] }), pair([3, 1], { ints: [2, 1, 4] })],
  Flatten: [
    one(image),
    one(image, { axis: int(0) }),
    one(image, { axis: int(-1) }),
    one(image, { axis: int(3) }),
  ],
  Gather: [
    pair(image, { ints: [1, 0, 2] }, { axis: int(1) }),
    pair(image, { ints: [-1], scalar: true }, { axis: int(2) }),
  ],
  GatherElements: [
    pair(["B", 6], { type: "int64", dims: ["B", 6] }, { axis: int(1) }),
  ],
  GatherND: [pair(["B", 6], { type: "int64", dims: [3, 1] })],
  Pad: [
    pair(image, { ints: [0, 0, 1, 2, 0, 0, 3, 4] }),
    { inputs: [image, { ints: [1, 2] }, null, { ints: [-1] }], opset: 18 },
    pair(image, { ints: [0, 0, -1, 0, 0, 0, 0, -2] }),
  ],
  Reshape: [
    pair(image, { ints: [0, 2, -1] }),
    pair(image, { ints: [-1, 63] }),
    pair(image, { ints: [0, 0, 63] }),
  ],
  ScatterElements: [
    {
      inputs: [flat, { type: "int64", dims: ["B", 1] }, ["B", 1]],
      attributes: { axis: int(1) },
    },
  ],
  ScatterND: [{ inputs: [flat, { type: "int64", dims: [1, 1] }, [1, 6]] }],
  Slice: [
    {
      inputs: [
        image,
        { ints: [1] },
        { ints: [-1] },
        { ints: [2] },
        { ints: [2] },
      ],
    },
    {
      inputs: [
        image,
        { ints: [-1, 0] },
        { ints: [-1000, 2 ** 31] },
        { ints: [3, 0] },
        { ints: [-1, 1] },
      ],
    },
    { inputs: [image, { ints: [0, 1] }, { ints: [1, 3] }] },
  ],
  Split: [
    {
      inputs: [image, { ints: [1, 3] }],
      attributes: { axis: int(1) },
      outputs: 2,
    },
    { inputs: [image], attributes: { axis: int(2) }, outputs: 3 },
    {
      inputs: [image],
      attributes: { axis: int(3), num_outputs: int(2) },
      outputs: 2,
      opset: 18,
    },
  ],
  Squeeze: [pair(["B", 1, 3, 1], { ints: [1, -1] })],
  Unsqueeze: [pair(flat, { ints: [0, -1] })],
  Tile: [pair(flat, { ints: [3, 2] })],
  Transpose: [one(image, { perm: ints(1, 0, 3, 2) }), one(image)],
  Trilu: [one(["B", 3, 3])],

  Constant: [
    { inputs: [], attributes: { value_ints: ints(1, 2, 3) } },
    { inputs: [], attributes: { value_float: float(2) } },
  ],
  ConstantOfShape: [{ inputs: [{ ints: [2, 3] }] }],
  EyeLike: [one([3, 4], { dtype: int(1) })],
  OneHot: [
    {
      inputs: [
        { type: "int64", dims: ["B"] },
        { ints: [5], scalar: true },
        [2],
      ],
    },
    {
      inputs: [
        { type: "int64", dims: ["B", 2] },
        { ints: [5], scalar: true },
        [2],
      ],
      attributes: { axis: int(1) },
    },
  ],
  Range: [
    {
      inputs: [
        { ints: [1], scalar: true },
        { ints: [8], scalar: true },
        { ints: [3], scalar: true },
      ],
    },
  ],
  Shape: [one(image), one(image, { start: int(1), end: int(-1) })],
  Size: [one(image)],
};

/** A model of one node, its inputs and outputs all open. */
function modelOf(
  op: OperatorName,
  { inputs, attributes = {}, outputs = 1, opset = 17 }: Case,
): { model: Model; feeds: Record<string, Tensor> } {
  const g = new GraphBuilder(op);
  const feeds: Record<string, Tensor> = {};
  const names = inputs.map((input, i) => {
    if (input === null) return "";
    if ("ints" in input)
      return g.constant(
        {
          dataType: "int64",
          dims: input.scalar ? [] : [input.ints.length],
          data: BigInt64Array.from(input.ints, BigInt),
        },
        `c${i}`,
      );
    if ("floats" in input)
      return g.constant(
        {
          dataType: "float32",
          dims: input.scalar ? [] : [input.floats.length],
          data: Float32Array.from(input.floats),
        },
        `c${i}`,
      );
    const { type, dims } =
      "type" in input ? input : { type: "float32" as const, dims: input };
    const name = g.input(`x${i}`, type, dims);
    const shape = evaluateDims(dims, { B: 2 });
    const length = shape.reduce((product, dim) => product * dim, 1);
    feeds[name] = numbers(type, shape, length);
    return name;
  });
  const made = g.node(op, names, {
    attributes,
    outputs,
    domain: operators[op].domain,
  });
  const outputValues = made.map((name) => ({
    name,
    dataType: "float32" as const,
    dims: [],
  }));
  const graph = { ...g.build(), outputs: outputValues };
  return { model: { graph, opset, irVersion: 8, metadata: {} }, feeds };
}

function numbers(
  type: DataType,
  dims: readonly number[],
  length: number,
): Tensor {
  if (type === "int64")
    return { dataType: type, dims, data: new BigInt64Array(length) };
  if (type === "int32")
    return { dataType: type, dims, data: new Int32Array(length) };
  if (type === "bool")
    return { dataType: type, dims, data: new Uint8Array(length).fill(1) };
  const data = Float32Array.from({ length }, (_, i) => 1 + (i % 5));
  return { dataType: "float32", dims, data };
}

describe("shape rules", () => {
  for (const op of Object.keys(operators) as OperatorName[])
    cases[op].forEach((given, i) => {
      test(`${op}, case ${i + 1}, as onnxruntime computes it`, async () => {
        const { model, feeds } = modelOf(op, given);
        // Outputs are declared as found, which is what is compared.
        const values = inferShapes(model);
        const outputs = model.graph.outputs.map(
          ({ name }) => values.get(name) ?? assert.fail(name),
        );
        const whole: Model = { ...model, graph: { ...model.graph, outputs } };
        checkGraph(whole);
        const runner = await createRunner(writeModel(whole), { threads: 1 });
        try {
          const found = await runner.run(feeds);
          for (const { name, dataType, dims } of outputs) {
            assert.equal(dataType, found[name].dataType);
            assert.deepEqual(evaluateDims(dims, { B: 2 }), [
              ...found[name].dims,
            ]);
          }
        } finally {
          await runner.close();
        }
      });
    });
});
