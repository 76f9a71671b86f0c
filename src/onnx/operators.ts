import type { Attribute } from "./graph.js";

/** One attribute of an operator: its type, and its default where the format gives one. */
export interface AttributeFacts {
  readonly type: Attribute["type"];
  readonly default?: Attribute["value"];
  readonly required?: true;
}

/** What the format says of an operator, shapes apart. */
export interface OperatorFacts {
  readonly domain: "" | "com.microsoft";
  /** Least and largest number of inputs; trailing optional ones may be left out. */
  readonly inputs: readonly [number, number];
  readonly outputs: readonly [number, number];
  readonly attributes: Readonly<Record<string, AttributeFacts>>;
  /** First operator set that has it, where later than 13. */
  readonly since?: number;
}

const need = (type: Attribute["type"]): AttributeFacts => ({
  type,
  required: true,
});
const may = (type: Attribute["type"]): AttributeFacts => ({ type });
const int = (value: number): AttributeFacts => ({
  type: "int",
  default: value,
});
const float = (value: number): AttributeFacts => ({
  type: "float",
  default: value,
});
const text = (value: string): AttributeFacts => ({
  type: "string",
  default: value,
});

type Attributes = Readonly<Record<string, AttributeFacts>>;

const op = (
  inputs: number | readonly [number, number],
  attributes: Attributes = {},
  outputs: number | readonly [number, number] = 1,
): OperatorFacts => ({
  domain: "",
  inputs: typeof inputs === "number" ? [inputs, inputs] : inputs,
  outputs: typeof outputs === "number" ? [outputs, outputs] : outputs,
  attributes,
});
const since = (opset: number, facts: OperatorFacts): OperatorFacts => ({
  ...facts,
  since: opset,
});
const microsoft = (facts: OperatorFacts): OperatorFacts => ({
  ...facts,
  domain: "com.microsoft",
});

/** More inputs than any graph has: the operator is variadic. */
const ANY = 2147483647;

const unary = op(1);
const binary = op(2);
const variadic = op([1, ANY]);
const spatial: Attributes = {
  auto_pad: text("NOTSET"),
  dilations: may("ints"),
  group: int(1),
  kernel_shape: may("ints"),
  pads: may("ints"),
  strides: may("ints"),
};
const pooling: Attributes = {
  auto_pad: text("NOTSET"),
  ceil_mode: int(0),
  dilations: may("ints"),
  kernel_shape: need("ints"),
  pads: may("ints"),
  strides: may("ints"),
};
// The axes moved from attribute to input at 13 (ReduceSum) and 18 (the others): both forms are read.
const reduction = op([1, 2], {
  axes: may("ints"),
  keepdims: int(1),
  noop_with_empty_axes: int(0),
});
const argument = op(1, {
  axis: int(0),
  keepdims: int(1),
  select_last_index: int(0),
});
const fusedMatMul: Attributes = {
  alpha: float(1),
  transA: int(0),
  transB: int(0),
  transBatchA: int(0),
  transBatchB: int(0),
};

const table = {
  // One value in, one out, element by element.
  Abs: unary,
  Ceil: unary,
  Cos: unary,
  Erf: unary,
  Exp: unary,
  Floor: unary,
  Identity: unary,
  IsNaN: unary,
  Log: unary,
  Neg: unary,
  Not: unary,
  Reciprocal: unary,
  Relu: unary,
  Round: unary,
  Sigmoid: unary,
  Sign: unary,
  Sin: unary,
  Softplus: unary,
  Softsign: unary,
  Sqrt: unary,
  Tanh: unary,
  HardSwish: since(14, unary),
  Mish: since(18, unary),
  Gelu: since(20, op(1, { approximate: text("none") })),
  Celu: op(1, { alpha: float(1) }),
  Elu: op(1, { alpha: float(1) }),
  HardSigmoid: op(1, { alpha: float(0.2), beta: float(0.5) }),
  LeakyRelu: op(1, { alpha: float(0.01) }),
  Selu: op(1, {
    alpha: float(1.67326319217681884765625),
    gamma: float(1.05070102214813232421875),
  }),
  ThresholdedRelu: op(1, { alpha: float(1) }),
  Cast: op(1, { to: need("int"), saturate: int(1) }),
  CastLike: since(15, op(2, { saturate: int(1) })),
  Clip: op([1, 3]),
  Dropout: op([1, 3], { seed: may("int") }, [1, 2]),

  // Broadcasting.
  Add: binary,
  And: binary,
  Div: binary,
  Equal: binary,
  Greater: binary,
  GreaterOrEqual: binary,
  Less: binary,
  LessOrEqual: binary,
  Mod: op(2, { fmod: int(0) }),
  Mul: binary,
  Or: binary,
  Pow: binary,
  PRelu: binary,
  Sub: binary,
  Xor: binary,
  Max: variadic,
  Mean: variadic,
  Min: variadic,
  Sum: variadic,
  Where: op(3),

  // Matrices.
  MatMul: binary,
  Gemm: op([2, 3], {
    alpha: float(1),
    beta: float(1),
    transA: int(0),
    transB: int(0),
  }),
  FusedMatMul: microsoft(op(2, fusedMatMul)),

  // Convolution and pooling.
  Conv: op([2, 3], spatial),
  ConvTranspose: op([2, 3], {
    ...spatial,
    output_padding: may("ints"),
    output_shape: may("ints"),
  }),
  AveragePool: op(1, { ...pooling, count_include_pad: int(0) }),
  MaxPool: op(1, { ...pooling, storage_order: int(0) }, [1, 2]),
  LpPool: op(1, { ...pooling, p: int(2) }),
  GlobalAveragePool: unary,
  GlobalLpPool: op(1, { p: int(2) }),
  GlobalMaxPool: unary,

  // Normalization.
  BatchNormalization: op(
    5,
    { epsilon: float(1e-5), momentum: float(0.9), training_mode: int(0) },
    [1, 3],
  ),
  GroupNormalization: since(
    18,
    op(3, {
      epsilon: float(1e-5),
      num_groups: need("int"),
      stash_type: int(1),
    }),
  ),
  InstanceNormalization: op(3, { epsilon: float(1e-5) }),
  LayerNormalization: since(
    17,
    op(
      [2, 3],
      { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
      [1, 3],
    ),
  ),
  LogSoftmax: op(1, { axis: int(-1) }),
  LpNormalization: op(1, { axis: int(-1), p: int(2) }),
  LRN: op(1, {
    alpha: float(0.0001),
    beta: float(0.75),
    bias: float(1),
    size: need("int"),
  }),
  MeanVarianceNormalization: op(1, {
    axes: { type: "ints", default: [0, 2, 3] },
  }),
  Softmax: op(1, { axis: int(-1) }),

  // Reduction and search.
  ArgMax: argument,
  ArgMin: argument,
  CumSum: op(2, { exclusive: int(0), reverse: int(0) }),
  ReduceL1: reduction,
  ReduceL2: reduction,
  ReduceLogSum: reduction,
  ReduceLogSumExp: reduction,
  ReduceMax: reduction,
  ReduceMean: reduction,
  ReduceMin: reduction,
  ReduceProd: reduction,
  ReduceSum: reduction,
  ReduceSumSquare: reduction,
  TopK: op(2, { axis: int(-1), largest: int(1), sorted: int(1) }, 2),

  // Movement.
  Concat: op([1, ANY], { axis: need("int") }),
  DepthToSpace: op(1, { blocksize: need("int"), mode: text("DCR") }),
  Expand: binary,
  Flatten: op(1, { axis: int(1) }),
  Gather: op(2, { axis: int(0) }),
  GatherElements: op(2, { axis: int(0) }),
  GatherND: op(2, { batch_dims: int(0) }),
  Pad: op([2, 4], { mode: text("constant") }),
  Reshape: op(2, { allowzero: int(0) }),
  ScatterElements: op(3, { axis: int(0), reduction: text("none") }),
  ScatterND: op(3, { reduction: text("none") }),
  Slice: op([3, 5]),
  SpaceToDepth: op(1, { blocksize: need("int") }),
  Split: op([1, 2], { axis: int(0), num_outputs: may("int") }, [1, ANY]),
  Squeeze: op([1, 2]),
  Tile: binary,
  Transpose: op(1, { perm: may("ints") }),
  Trilu: since(14, op([1, 2], { upper: int(1) })),
  Unsqueeze: binary,

  // Constants and shapes.
  Constant: op(0, {
    value: may("tensor"),
    value_float: may("float"),
    value_floats: may("floats"),
    value_int: may("int"),
    value_ints: may("ints"),
  }),
  ConstantOfShape: op(1, { value: may("tensor") }),
  EyeLike: op(1, { dtype: may("int"), k: int(0) }),
  OneHot: op(3, { axis: int(-1) }),
  Range: op(3),
  Shape: op(1, { end: may("int"), start: int(0) }),
  Size: unary,
} satisfies Record<string, OperatorFacts>;

/** Operators that shape inference, checking and folding know. */
export type OperatorName = keyof typeof table;

/** Attributes and their defaults, arity and first operator set of each operator. Source: onnx/onnx docs/Operators.md. */
export const operators: Readonly<Record<OperatorName, OperatorFacts>> = table;

/** Whether an operator of that name and domain is in the table. */
export function isKnownOperator(
  opType: string,
  domain: string,
): opType is OperatorName {
  return (
    Object.hasOwn(operators, opType) &&
    operators[opType as OperatorName].domain === domain
  );
}
