import type { ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "./gradient-builder.js";
import {
  type DifferentiatedNode,
  type GradientRule,
  oneOutput,
  twoInputs,
} from "./gradient-rule.js";

/** Operators that compute element for element, with broadcasting. */
export type ArithmeticOp =
  | "Add"
  | "Sub"
  | "Mul"
  | "Div"
  | "Neg"
  | "Abs"
  | "Sqrt"
  | "Reciprocal"
  | "Pow"
  | "Exp"
  | "Log"
  | "Min"
  | "Max"
  | "Sum"
  | "Where"
  | "Clip"
  | "Identity"
  | "Cast"
  | "Dropout"
  | "Erf"
  | "Sin"
  | "Cos";

/** dx of an elementwise function from its derivative. */
const elementwise = (
  derivative: (x: ValueInfo, y: ValueInfo, g: GradientBuilder) => ValueInfo,
): GradientRule =>
  oneOutput(({ x, y }, dy, g) => [g.mul(dy, derivative(x, y, g))]);

export const arithmeticRules: Readonly<Record<ArithmeticOp, GradientRule>> = {
  // y = a + b           da = dy, db = dy, each summed back over its broadcast axes
  Add: twoInputs(({ a, b }, dy, g) => [
    g.sumTo(dy, a.dims),
    g.sumTo(dy, b.dims),
  ]),

  // y = a − b           da = dy, db = −dy
  Sub: twoInputs(({ a, b }, dy, g) => [
    g.sumTo(dy, a.dims),
    g.neg(g.sumTo(dy, b.dims)),
  ]),

  // y = a · b           da = dy · b, db = dy · a
  Mul: twoInputs(({ a, b }, dy, g) => [
    g.sumTo(g.mul(dy, b), a.dims),
    g.sumTo(g.mul(dy, a), b.dims),
  ]),

  // y = a / b           da = dy / b, db = −dy · y / b
  Div: twoInputs(({ a, b, y }, dy, g) => {
    const da = g.div(dy, b);
    return [g.sumTo(da, a.dims), g.neg(g.sumTo(g.mul(da, y), b.dims))];
  }),

  // y = −x              dx = −dy
  Neg: oneOutput((_, dy, g) => [g.neg(dy)]),

  // y = |x|             dx = dy · sign(x); 0 at 0
  Abs: elementwise((x, _, g) => g.sign(x)),

  // y = √x              dx = dy / (2 y)
  Sqrt: oneOutput(({ y }, dy, g) => [g.div(g.mul(dy, 0.5), y)]),

  // y = 1 / x           dx = −dy · y²
  Reciprocal: elementwise((_, y, g) => g.neg(g.mul(y, y))),

  // y = aᵇ              da = dy · b · aᵇ⁻¹, db = dy · y · ln a (0 where a ≤ 0, as there PyTorch's is 0 or undefined)
  Pow: twoInputs((forward, dy, g) => {
    const { a, b, y } = forward;
    const exponent = forward.constantFloat(1);
    const da =
      exponent === undefined
        ? g.mul(b, g.pow(a, g.sub(b, 1)))
        : exponent === 2
          ? g.mul(a, 2)
          : g.mul(g.pow(a, exponent - 1), exponent);
    const db = forward.isWanted[1]
      ? logarithmPart({ a, b, y }, dy, g)
      : undefined;
    return [g.sumTo(g.mul(dy, da), a.dims), db];
  }),

  // y = eˣ              dx = dy · y
  Exp: elementwise((_, y) => y),

  // y = ln x            dx = dy / x
  Log: oneOutput(({ x }, dy, g) => [g.div(dy, x)]),

  // y = min(a, b, …)    dx = dy · [x = y], shared evenly between equals, as PyTorch has it
  Min: extremum,

  // y = max(a, b, …)    likewise
  Max: extremum,

  // y = a + b + …       dx = dy for each
  Sum: ({ inputs }, [dy], g) =>
    inputs.map((x) => (x && dy ? g.sumTo(dy, x.dims) : undefined)),

  // y = c ? a : b       da = c ? dy : 0, db = c ? 0 : dy
  Where: ({ inputs: [condition, a, b] }, [dy], g) =>
    condition && a && b && dy
      ? [
          undefined,
          g.sumTo(g.where(condition, dy, 0), a.dims),
          g.sumTo(g.where(condition, 0, dy), b.dims),
        ]
      : [],

  // y = min(max(x, low), high)     dx = dy · [low ≤ x ≤ high]; the kinks belong to the inside, as in PyTorch's clamp
  Clip: oneOutput((forward, dy, g) => {
    const [x, low, high] = forward.inputs;
    if (x === undefined) return [];
    let dx = dy;
    if (low) dx = g.mul(dx, g.sub(1, g.less(x, low)));
    if (high) dx = g.mul(dx, g.sub(1, g.greater(x, high)));
    return [dx];
  }),

  // y = x               dx = dy
  Identity: (_, [dy]) => [dy],

  // y = x in another type          dx = dy, back in x's type; nothing through integers
  Cast: oneOutput(({ x, y }, dy, g) => [
    x.dataType === "float32" && y.dataType === "float32"
      ? dy
      : x.dataType.startsWith("float")
        ? g.cast(dy, x.dataType)
        : undefined,
  ]),

  // y = x               dx = dy: evaluation mode only
  Dropout: (forward, [dy]) => {
    if (forward.inputs[2] !== undefined && forward.constantInts(2)?.[0] !== 0)
      forward.unsupported(
        "it is in training mode",
        "export the encoder in evaluation mode",
      );
    return [dy];
  },

  // y = erf x           dx = dy · 2/√π · exp(−x²)
  Erf: elementwise((x, _, g) =>
    g.mul(g.exp(g.neg(g.mul(x, x))), 2 / Math.sqrt(Math.PI)),
  ),

  // y = sin x           dx = dy · cos x
  Sin: elementwise((x, _, g) => g.emit("Cos", [x], { dims: x.dims })),

  // y = cos x           dx = −dy · sin x
  Cos: elementwise((x, _, g) => g.neg(g.emit("Sin", [x], { dims: x.dims }))),
};

function extremum(
  { inputs, outputs: [y] }: DifferentiatedNode,
  [dy]: readonly (ValueInfo | undefined)[],
  g: GradientBuilder,
): (ValueInfo | undefined)[] {
  if (dy === undefined || y === undefined) return [];
  const chosen = inputs.map((x) => (x ? g.equal(x, y) : undefined));
  const present = chosen.filter((mask) => mask !== undefined);
  const share =
    present.length === 1
      ? dy
      : g.div(
          dy,
          present.reduce((sum, mask) => g.add(sum, mask)),
        );
  return inputs.map((x, i) => {
    const mask = chosen[i];
    return x && mask ? g.sumTo(g.mul(share, mask), x.dims) : undefined;
  });
}

function logarithmPart(
  {
    a,
    b,
    y,
  }: { readonly a: ValueInfo; readonly b: ValueInfo; readonly y: ValueInfo },
  dy: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const isPositive = g.isGreater(a, 0);
  const logarithm = g.log(g.where(isPositive, a, 1));
  return g.sumTo(g.mul(g.mul(dy, y), logarithm), b.dims);
}
