import { ints, int } from "#onnx/builder";
import type { Attribute, ValueInfo } from "#onnx/graph";
import {
  type DifferentiatedNode,
  type GradientRule,
  intOf,
  intsOf,
  stringOf,
} from "./gradient-rule.js";

/** Convolutions. */
export type ConvolutionOp = "Conv";

/** Domain of the operators that stand for a gradient until lowering/ spells them out. */
export const GRADIENT_DOMAIN = "reid.gradient";

export const convolutionRules: Readonly<Record<ConvolutionOp, GradientRule>> = {
  // y = w ⋆ x + b       dx = dy ⋆ᵀ w, dw = x ⋆ dy (over batch and positions), db = Σ dy over batch and positions
  Conv: (forward, [dy], g) => {
    const [x, w, b] = forward.inputs;
    if (x === undefined || w === undefined || dy === undefined) return [];
    const attributes = geometry(forward, x, w);
    const operator = { attributes, domain: GRADIENT_DOMAIN };
    const dx = forward.isWanted[0]
      ? g.emit("ConvInputGradient", [dy, w, x], { dims: x.dims }, operator)
      : undefined;
    const dw = forward.isWanted[1]
      ? g.emit("ConvWeightGradient", [x, dy], { dims: w.dims }, operator)
      : undefined;
    const db =
      b &&
      g.reshape(
        g.sumTo(dy, [1, b.dims[0], ...dy.dims.slice(2).map(() => 1)]),
        b.dims,
      );
    return [dx, dw, db];
  },
};

/** A convolution's attributes with every default written out, `auto_pad` resolved. */
function geometry(
  forward: DifferentiatedNode,
  x: ValueInfo,
  w: ValueInfo,
): Readonly<Record<string, Attribute>> {
  const spatial = x.dims.length - 2;
  const kernel = w.dims.slice(2).map((dim) => numberOf(forward, dim));
  const strides = intsOf(forward, "strides") ?? kernel.map(() => 1);
  const dilations = intsOf(forward, "dilations") ?? kernel.map(() => 1);
  const pads = resolvedPads(forward, { kernel, strides, dilations, x });
  if (spatial !== 2)
    forward.unsupported(
      `it has ${spatial} spatial axes`,
      "use convolutions over height and width",
    );
  return {
    kernel: ints(...kernel),
    strides: ints(...strides),
    dilations: ints(...dilations),
    pads: ints(...pads),
    group: int(intOf(forward, "group", 1)),
  };
}

/** Padding as numbers: begin of each spatial axis, then end of each. */
export function resolvedPads(
  forward: DifferentiatedNode,
  {
    kernel,
    strides,
    dilations,
    x,
  }: {
    readonly kernel: readonly number[];
    readonly strides: readonly number[];
    readonly dilations: readonly number[];
    readonly x: ValueInfo;
  },
): readonly number[] {
  const auto = stringOf(forward, "auto_pad", "NOTSET");
  if (auto === "NOTSET")
    return intsOf(forward, "pads") ?? [...kernel, ...kernel].map(() => 0);
  if (auto === "VALID") return [...kernel, ...kernel].map(() => 0);
  const totals = kernel.map((size, i) => {
    const input = numberOf(forward, x.dims[i + 2]);
    const output = Math.ceil(input / strides[i]);
    return Math.max(
      0,
      (output - 1) * strides[i] + (size - 1) * dilations[i] + 1 - input,
    );
  });
  const smaller = totals.map((total) => Math.floor(total / 2));
  const larger = totals.map((total, i) => total - smaller[i]);
  return auto === "SAME_UPPER"
    ? [...smaller, ...larger]
    : [...larger, ...smaller];
}

/** A size that has to be known when the graph is written. */
export function numberOf(
  forward: DifferentiatedNode,
  dim: number | string,
): number {
  if (typeof dim === "number") return dim;
  return forward.unsupported(
    `its size "${dim}" is not known`,
    "fix height, width and channels in the encoder",
  );
}
