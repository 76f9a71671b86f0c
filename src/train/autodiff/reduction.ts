import type { ValueInfo } from "#onnx/graph";
import { positiveAxes } from "./dimensions.js";
import type { GradientBuilder } from "./gradient-builder.js";
import {
  type DifferentiatedNode,
  type GradientRule,
  intsOf,
  oneOutput,
} from "./gradient-rule.js";

/** Operators that fold axes away. */
export type ReductionOp =
  | "ReduceSum"
  | "ReduceMean"
  | "ReduceMax"
  | "ReduceMin"
  | "ReduceL1"
  | "ReduceL2"
  | "ReduceSumSquare"
  | "ReduceLogSumExp";

/** A reduction's values with the reduced axes kept as size 1. */
interface Reduction {
  readonly x: ValueInfo;
  /** Of the rank of x. */
  readonly y: ValueInfo;
  readonly axes: readonly number[];
}

const reduction = (
  rule: (reduced: Reduction, dy: ValueInfo, g: GradientBuilder) => ValueInfo,
): GradientRule =>
  oneOutput((forward, dy, g) => {
    const { x, y } = forward;
    const axes = axesOf(forward, x.dims.length);
    if (axes.length === 0) return [rule({ x, y, axes }, dy, g)];
    const kept = { x, y: g.restoreAxes(y, x.dims.length, axes), axes };
    return [rule(kept, g.restoreAxes(dy, x.dims.length, axes), g)];
  });

export const reductionRules: Readonly<Record<ReductionOp, GradientRule>> = {
  // y = Σ x             dx = dy, stretched
  ReduceSum: reduction(({ x }, dy, g) => g.expandLike(dy, x)),

  // y = (1/n) Σ x       dx = dy / n, stretched
  ReduceMean: reduction(({ x, axes }, dy, g) =>
    g.expandLike(g.div(dy, g.count(x, axes)), x),
  ),

  // y = max x           dx = dy · [x = y], shared evenly between equals, as PyTorch's amax has it
  ReduceMax: reduction(sharedExtremum),

  // y = min x           likewise
  ReduceMin: reduction(sharedExtremum),

  // y = Σ |x|           dx = dy · sign x
  ReduceL1: reduction(({ x }, dy, g) => g.mul(dy, g.sign(x))),

  // y = √Σ x²           dx = dy · x / y
  ReduceL2: reduction(({ x, y }, dy, g) => g.mul(x, g.div(dy, y))),

  // y = Σ x²            dx = 2 dy · x
  ReduceSumSquare: reduction(({ x }, dy, g) => g.mul(g.mul(dy, 2), x)),

  // y = ln Σ eˣ         dx = dy · e^(x − y)
  ReduceLogSumExp: reduction(({ x, y }, dy, g) =>
    g.mul(dy, g.exp(g.sub(x, y))),
  ),
};

function sharedExtremum(
  { x, y, axes }: Reduction,
  dy: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const mask = g.equal(x, y);
  return g.mul(mask, g.div(dy, g.sum(mask, axes, "keep")));
}

/** Axes come as attribute (before opset 13 or 18) or as second input; none means all of them. */
function axesOf(forward: DifferentiatedNode, rank: number): number[] {
  const given =
    intsOf(forward, "axes") ??
    (forward.inputs[1] ? forward.constantInts(1) : []);
  if (given === undefined)
    forward.unsupported(
      "its axes are computed by the graph",
      "export the encoder with constant axes",
    );
  if (given.length > 0) return positiveAxes(given, rank);
  const noop = forward.attributes["noop_with_empty_axes"];
  if (noop?.type === "int" && noop.value === 1) return [];
  return Array.from({ length: rank }, (_, axis) => axis);
}
