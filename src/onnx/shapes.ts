import { GraphInvalidError, OperatorUnsupportedError } from "./errors.js";
import type { Dimension, Model, Tensor, ValueInfo } from "./graph.js";
import { isKnownOperator, type OperatorName } from "./operators.js";
import * as constants from "./shapes/constants.js";
import * as convolution from "./shapes/convolution.js";
import * as elementwise from "./shapes/elementwise.js";
import * as matrix from "./shapes/matrix.js";
import * as movement from "./shapes/movement.js";
import * as reduction from "./shapes/reduction.js";
import {
  type Known,
  RuleContext,
  type ShapeRule,
  valueInfo,
} from "./shapes/rule.js";

const { likeInput, predicate, broadcasting, comparison, elementRules } =
  elementwise;

const shapeRules: Readonly<Record<OperatorName, ShapeRule>> = {
  Abs: likeInput,
  Ceil: likeInput,
  Cos: likeInput,
  Erf: likeInput,
  Exp: likeInput,
  Floor: likeInput,
  Identity: elementwise.identity,
  IsNaN: predicate,
  Log: likeInput,
  Neg: likeInput,
  Not: predicate,
  Reciprocal: likeInput,
  Relu: likeInput,
  Round: likeInput,
  Sigmoid: likeInput,
  Sign: likeInput,
  Sin: likeInput,
  Softplus: likeInput,
  Softsign: likeInput,
  Sqrt: likeInput,
  Tanh: likeInput,
  HardSwish: likeInput,
  Mish: likeInput,
  Gelu: likeInput,
  Celu: likeInput,
  Elu: likeInput,
  HardSigmoid: likeInput,
  LeakyRelu: likeInput,
  Selu: likeInput,
  ThresholdedRelu: likeInput,
  Cast: elementwise.cast,
  CastLike: elementwise.castLike,
  Clip: likeInput,
  Dropout: elementwise.dropout,

  Add: broadcasting(elementRules.add),
  And: comparison(),
  Div: broadcasting(elementRules.divide),
  Equal: comparison(elementwise.equalElements),
  Greater: comparison(),
  GreaterOrEqual: comparison(),
  Less: comparison(),
  LessOrEqual: comparison(),
  Mod: broadcasting(elementRules.modulo),
  Mul: broadcasting(elementRules.multiply),
  Or: comparison(),
  Pow: elementwise.power,
  PRelu: broadcasting(),
  Sub: broadcasting(elementRules.subtract),
  Xor: comparison(),
  Max: broadcasting(elementRules.max),
  Mean: broadcasting(),
  Min: broadcasting(elementRules.min),
  Sum: broadcasting(),
  Where: elementwise.where,

  MatMul: matrix.matMul,
  Gemm: matrix.gemm,
  FusedMatMul: matrix.fusedMatMul,

  Conv: convolution.conv,
  ConvTranspose: convolution.convTranspose,
  AveragePool: convolution.pool,
  MaxPool: convolution.pool,
  LpPool: convolution.pool,
  GlobalAveragePool: convolution.globalPool,
  GlobalLpPool: convolution.globalPool,
  GlobalMaxPool: convolution.globalPool,

  BatchNormalization: convolution.batchNormalization,
  GroupNormalization: likeInput,
  InstanceNormalization: convolution.channelNormalization,
  LayerNormalization: convolution.layerNormalization,
  LogSoftmax: likeInput,
  LpNormalization: likeInput,
  LRN: likeInput,
  MeanVarianceNormalization: likeInput,
  Softmax: likeInput,

  ArgMax: reduction.argument,
  ArgMin: reduction.argument,
  CumSum: likeInput,
  ReduceL1: reduction.reduce,
  ReduceL2: reduction.reduce,
  ReduceLogSum: reduction.reduce,
  ReduceLogSumExp: reduction.reduce,
  ReduceMax: reduction.reduce,
  ReduceMean: reduction.reduce,
  ReduceMin: reduction.reduce,
  ReduceProd: reduction.reduce,
  ReduceSum: reduction.reduce,
  ReduceSumSquare: reduction.reduce,
  TopK: reduction.topK,

  Concat: movement.concat,
  DepthToSpace: movement.depthToSpace,
  Expand: movement.expand,
  Flatten: movement.flatten,
  Gather: movement.gather,
  GatherElements: movement.gatherElements,
  GatherND: movement.gatherND,
  Pad: movement.pad,
  Reshape: movement.reshape,
  ScatterElements: likeInput,
  ScatterND: likeInput,
  Slice: movement.slice,
  SpaceToDepth: movement.spaceToDepth,
  Split: movement.split,
  Squeeze: movement.squeeze,
  Tile: movement.tile,
  Transpose: movement.transpose,
  Trilu: likeInput,
  Unsqueeze: movement.unsqueeze,

  Constant: constants.constant,
  ConstantOfShape: constants.constantOfShape,
  EyeLike: constants.eyeLike,
  OneHot: constants.oneHot,
  Range: constants.range,
  Shape: constants.shape,
  Size: constants.size,
};

/** Settings of shape inference. */
export interface ShapeOptions {
  /** Dimensions to take for graph inputs instead of the declared ones, by input name. */
  readonly inputs?: Readonly<Record<string, readonly Dimension[]>>;
}

/**
 * Type and shape of every value of a graph: inputs, initializers and all outputs of all nodes.
 *
 * Dimensions that only the run will tell stay symbols, and arithmetic on them too: `batch`, `2*batch + 1`,
 * `floor((height - 1)/(2))`.
 *
 * @throws {GraphInvalidError}        shapes or types do not fit, a value does not exist
 * @throws {OperatorUnsupportedError} an operator that the table `operators` does not have
 */
export function inferShapes(
  model: Model,
  options: ShapeOptions = {},
): ReadonlyMap<string, ValueInfo> {
  const values = new Map<string, ValueInfo>();
  for (const [name, known] of inferKnown(model, options))
    values.set(name, valueInfo(name, known));
  return values;
}

/** As `inferShapes`, with the elements of short integer values such as shapes. */
export function inferKnown(
  model: Model,
  { inputs = {} }: ShapeOptions = {},
): ReadonlyMap<string, Known> {
  const { graph, opset } = model;
  const known = new Map<string, Known>();
  for (const input of graph.inputs)
    known.set(input.name, {
      dataType: input.dataType,
      dims: inputs[input.name] ?? input.dims,
    });
  for (const [name, tensor] of graph.initializers)
    known.set(name, constants.knownFromTensor(tensor));
  for (const node of graph.nodes) {
    if (!isKnownOperator(node.opType, node.domain))
      throw new OperatorUnsupportedError(
        node.domain === "" ? node.opType : `${node.domain}.${node.opType}`,
        opset,
        node.name,
        "operators listed in docs/operators.md",
      );
    const context = new RuleContext(
      node,
      opset,
      node.inputs.map((name) => knownInput(known, name, node.name)),
      graph.initializers as ReadonlyMap<string, Tensor>,
    );
    const results = shapeRules[node.opType](context);
    node.outputs.forEach((name, i) => {
      if (name === "") return;
      if (results[i] === undefined)
        throw new GraphInvalidError(
          node.name,
          `${node.opType} has no output ${i}`,
        );
      known.set(name, results[i]);
    });
  }
  return known;
}

function knownInput(
  known: ReadonlyMap<string, Known>,
  name: string,
  node: string,
): Known | undefined {
  if (name === "") return undefined;
  const value = known.get(name);
  if (value === undefined)
    throw new GraphInvalidError(
      node,
      `input "${name}" exists nowhere before it`,
    );
  return value;
}
