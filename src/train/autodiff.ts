import type {
  Dimension,
  Graph,
  Model,
  Node,
  Tensor,
  ValueInfo,
} from "#onnx/graph";
import { GraphBuilder } from "#onnx/builder";
import { type ActivationOp, activationRules } from "./autodiff/activation.js";
import { type ArithmeticOp, arithmeticRules } from "./autodiff/arithmetic.js";
import {
  type ConvolutionOp,
  convolutionRules,
} from "./autodiff/convolution.js";
import { GradientBuilder } from "./autodiff/gradient-builder.js";
import type {
  DifferentiatedNode,
  GradientRule,
} from "./autodiff/gradient-rule.js";
import { type LinearOp, linearRules } from "./autodiff/linear.js";
import { type MovementOp, movementRules } from "./autodiff/movement.js";
import {
  type NormalizationOp,
  normalizationRules,
} from "./autodiff/normalization.js";
import { type PoolingOp, poolingRules } from "./autodiff/pooling.js";
import { type ReductionOp, reductionRules } from "./autodiff/reduction.js";
import { GradientUnsupportedError, NoGradientRuleError } from "./errors.js";

/** Every operator that gradients pass through. */
export type DifferentiableOp =
  | ActivationOp
  | ArithmeticOp
  | ConvolutionOp
  | LinearOp
  | MovementOp
  | NormalizationOp
  | PoolingOp
  | ReductionOp;

/** The derivative of each operator; docs/operators.md is this table in words. */
export const gradientRules: Readonly<Record<DifferentiableOp, GradientRule>> = {
  ...arithmeticRules,
  ...activationRules,
  ...linearRules,
  ...convolutionRules,
  ...normalizationRules,
  ...poolingRules,
  ...reductionRules,
  ...movementRules,
};

/** A value with its shape and, where shape inference found them, its elements: integers such as axes and bounds. */
export interface KnownValue extends ValueInfo {
  readonly contents?: readonly Dimension[];
}

/** A graph that computes gradients beside what it computed before. */
export interface Differentiated {
  /** The nodes of before, then those of the backward pass. Its operators of domain `reid.gradient` are to be lowered. */
  readonly graph: Graph;
  /** For each parameter the loss depends on, the value that is ∂loss/∂parameter, of the parameter's shape. */
  readonly gradients: ReadonlyMap<string, ValueInfo>;
  /** What is known of every value, old and new. */
  readonly values: ReadonlyMap<string, ValueInfo>;
}

/**
 * Reverse-mode differentiation: appends to a graph the nodes that compute the gradient of a scalar.
 *
 * Walks the nodes backwards, hands each one's output cotangents to the rule of its operator, and adds up
 * what arrives at a value from several sides.
 *
 * @param model       the forward graph; constants folded, so that shapes and axes are initializers
 * @param loss        name of a float32 value with one element
 * @param parameters  names of float32 inputs, initializers or intermediate values
 * @param values      what is known of every value of the graph (inferKnown)
 * @throws {NoGradientRuleError} an operator between parameters and loss has no rule
 * @throws {GradientUnsupportedError} it has one, but not for these attributes
 */
export function differentiate(
  { graph, opset }: Pick<Model, "graph" | "opset">,
  loss: string,
  parameters: readonly string[],
  values: ReadonlyMap<string, KnownValue>,
): Differentiated {
  const dependent = dependentValues(graph, parameters, values);
  const extended = new Map<Node, string[]>();
  const optional = new Map<string, ValueInfo>();
  const builder = GraphBuilder.extending(graph, { keepOutputs: true });
  const g = new GradientBuilder(builder, opset, "gradient");
  const arrived = new Map<string, ValueInfo[]>([
    [loss, [g.constant(onesLike(values.get(loss)))]],
  ]);
  const constants = constantsOf(graph, parameters);

  const cotangentOf = (name: string): ValueInfo | undefined => {
    const parts = arrived.get(name);
    if (parts === undefined || parts.length === 0) return undefined;
    const total =
      parts.length === 1
        ? parts[0]
        : parts.reduce((sum, part) => g.add(sum, part));
    arrived.set(name, [total]);
    return total;
  };

  for (const node of graph.nodes.toReversed()) {
    const cotangents = node.outputs.map(cotangentOf);
    if (cotangents.every((cotangent) => cotangent === undefined)) continue;
    const isWanted = node.inputs.map((input) => dependent.has(input));
    if (!isWanted.includes(true)) continue;
    const forward = forwardNode(
      { node, isWanted, values, constants },
      (position, result) => {
        const outputs = extended.get(node) ?? [...node.outputs];
        while (outputs.length <= position) outputs.push("");
        if (outputs[position] === "")
          outputs[position] = builder.uniqueName(
            `${node.outputs[0]}/output${position}`,
          );
        extended.set(node, outputs);
        const made = { name: outputs[position], ...result };
        optional.set(made.name, made);
        return made;
      },
    );
    const results = ruleOf(node)(forward, cotangents, g);
    node.inputs.forEach((input, i) => {
      const cotangent = results[i];
      if (cotangent === undefined || !isWanted[i]) return;
      const parts = arrived.get(input);
      if (parts === undefined) arrived.set(input, [cotangent]);
      else parts.push(cotangent);
    });
  }

  const gradients = new Map<string, ValueInfo>();
  for (const parameter of parameters) {
    const gradient = cotangentOf(parameter);
    if (gradient !== undefined) gradients.set(parameter, gradient);
  }
  const built = builder.build();
  const nodes = built.nodes.map((node) => {
    const outputs = extended.get(node);
    return outputs === undefined ? node : { ...node, outputs };
  });
  return {
    graph: { ...built, nodes },
    gradients,
    values: new Map([...values, ...optional, ...g.values]),
  };
}

/** Names of the values that some parameter changes: gradients need to reach only these. */
function dependentValues(
  graph: Graph,
  parameters: readonly string[],
  values: ReadonlyMap<string, ValueInfo>,
): ReadonlySet<string> {
  const dependent = new Set(parameters);
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => dependent.has(input))) continue;
    for (const output of node.outputs) {
      const dataType = values.get(output)?.dataType;
      if (
        output !== "" &&
        (dataType === undefined || dataType.startsWith("float"))
      )
        dependent.add(output);
    }
  }
  return dependent;
}

function ruleOf(node: Node): GradientRule {
  const rules: Readonly<Record<string, GradientRule>> = gradientRules;
  if (Object.hasOwn(rules, node.opType)) return rules[node.opType];
  throw new NoGradientRuleError(
    node.opType,
    node.name,
    Object.keys(gradientRules).sort(),
  );
}

function forwardNode(
  {
    node,
    isWanted,
    values,
    constants,
  }: {
    readonly node: Node;
    readonly isWanted: readonly boolean[];
    readonly values: ReadonlyMap<string, KnownValue>;
    readonly constants: ReadonlyMap<string, Tensor>;
  },
  output: DifferentiatedNode["output"],
): DifferentiatedNode {
  const valueOf = (name: string): ValueInfo | undefined =>
    name === "" ? undefined : values.get(name);
  return {
    node,
    inputs: node.inputs.map(valueOf),
    outputs: node.outputs.map(valueOf),
    isWanted,
    attributes: node.attributes,
    constantInts: (position) => {
      const tensor = constants.get(node.inputs[position] ?? "");
      if (tensor !== undefined) return Array.from(tensor.data, Number);
      const contents = values.get(node.inputs[position] ?? "")?.contents;
      return contents?.every((element) => typeof element === "number")
        ? contents
        : undefined;
    },
    constantFloat: (position) => {
      const tensor = constants.get(node.inputs[position] ?? "");
      return tensor?.data.length === 1 ? Number(tensor.data[0]) : undefined;
    },
    output,
    unsupported: (reason, remedy) => {
      throw new GradientUnsupportedError(
        node.opType,
        node.name,
        reason,
        remedy,
      );
    },
  };
}

/** Initializers that are no parameters, and the outputs of Constant nodes. */
function constantsOf(
  graph: Graph,
  parameters: readonly string[],
): ReadonlyMap<string, Tensor> {
  const constants = new Map(graph.initializers);
  for (const parameter of parameters) constants.delete(parameter);
  for (const node of graph.nodes) {
    if (node.opType !== "Constant") continue;
    const {
      value,
      value_float: float,
      value_int: int,
      value_ints: ints,
    } = node.attributes;
    if (value?.type === "tensor") constants.set(node.outputs[0], value.value);
    if (float?.type === "float")
      constants.set(node.outputs[0], {
        dataType: "float32",
        dims: [],
        data: Float32Array.of(float.value),
      });
    if (int?.type === "int")
      constants.set(node.outputs[0], {
        dataType: "int64",
        dims: [],
        data: BigInt64Array.of(BigInt(int.value)),
      });
    if (ints?.type === "ints")
      constants.set(node.outputs[0], {
        dataType: "int64",
        dims: [ints.value.length],
        data: BigInt64Array.from(ints.value, BigInt),
      });
  }
  return constants;
}

function onesLike(value: ValueInfo | undefined): number | Tensor {
  const dims = value?.dims.map(() => 1) ?? [];
  return dims.length === 0
    ? 1
    : { dataType: "float32", dims, data: Float32Array.of(1) };
}
