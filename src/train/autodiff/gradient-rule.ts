import type {
  Attribute,
  DataType,
  Dimension,
  Node,
  ValueInfo,
} from "#onnx/graph";
import type { GradientBuilder } from "./gradient-builder.js";

/** A node of the forward graph with what is known of its values. */
export interface DifferentiatedNode {
  readonly node: Node;
  /** One a formal input; `undefined` for an optional one left out. */
  readonly inputs: readonly (ValueInfo | undefined)[];
  /** One a formal output; `undefined` for an optional one left out. */
  readonly outputs: readonly (ValueInfo | undefined)[];
  /** Which inputs have a parameter behind them: the others' cotangents may be left out. */
  readonly isWanted: readonly boolean[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** Constant inputs (initializers) by position, where they are known. */
  constantInts(position: number): readonly number[] | undefined;
  constantFloat(position: number): number | undefined;
  /** An optional output that the encoder does not ask for, such as the indices of a MaxPool: made to exist. */
  output(
    position: number,
    result: {
      readonly dims: readonly Dimension[];
      readonly dataType: DataType;
    },
  ): ValueInfo;
  /** Stops with the node's name and a reason: this use of the operator has no gradient. */
  unsupported(reason: string, remedy: string): never;
}

/**
 * From the cotangents of a node's outputs to those of its inputs: ∂loss/∂input = Σ (∂output/∂input)ᵀ · cotangent.
 *
 * A cotangent is `undefined` where no gradient arrives; at least one is there. A rule leaves out
 * (`undefined`) what is not differentiable, such as indices.
 */
export type GradientRule = (
  forward: DifferentiatedNode,
  cotangents: readonly (ValueInfo | undefined)[],
  g: GradientBuilder,
) => readonly (ValueInfo | undefined)[];

/** The rule of an operator with one output, whose cotangent is there. */
export function oneOutput(
  rule: (
    forward: DifferentiatedNode & {
      readonly x: ValueInfo;
      readonly y: ValueInfo;
    },
    dy: ValueInfo,
    g: GradientBuilder,
  ) => readonly (ValueInfo | undefined)[],
): GradientRule {
  return (forward, [dy], g) => {
    const [x] = forward.inputs;
    const [y] = forward.outputs;
    if (dy === undefined || x === undefined || y === undefined) return [];
    return rule({ ...forward, x, y }, dy, g);
  };
}

/** The rule of an operator with two inputs and one output. */
export function twoInputs(
  rule: (
    forward: DifferentiatedNode & {
      readonly a: ValueInfo;
      readonly b: ValueInfo;
      readonly y: ValueInfo;
    },
    dy: ValueInfo,
    g: GradientBuilder,
  ) => readonly (ValueInfo | undefined)[],
): GradientRule {
  return (forward, [dy], g) => {
    const [a, b] = forward.inputs;
    const [y] = forward.outputs;
    if (
      dy === undefined ||
      a === undefined ||
      b === undefined ||
      y === undefined
    )
      return [];
    return rule({ ...forward, a, b, y }, dy, g);
  };
}

/** An integer attribute or its default. */
export function intOf(
  { attributes }: Pick<DifferentiatedNode, "attributes">,
  name: string,
  otherwise: number,
): number {
  const attribute = attributes[name];
  return attribute?.type === "int" ? attribute.value : otherwise;
}

/** A list of integers or its default. */
export function intsOf(
  { attributes }: Pick<DifferentiatedNode, "attributes">,
  name: string,
): readonly number[] | undefined {
  const attribute = attributes[name];
  return attribute?.type === "ints" ? attribute.value : undefined;
}

/** A float attribute or its default. */
export function floatOf(
  { attributes }: Pick<DifferentiatedNode, "attributes">,
  name: string,
  otherwise: number,
): number {
  const attribute = attributes[name];
  return attribute?.type === "float" ? attribute.value : otherwise;
}

/** A string attribute or its default. */
export function stringOf(
  { attributes }: Pick<DifferentiatedNode, "attributes">,
  name: string,
  otherwise: string,
): string {
  const attribute = attributes[name];
  return attribute?.type === "string" ? attribute.value : otherwise;
}
