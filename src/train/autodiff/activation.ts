import type { ValueInfo } from "#onnx/graph";
import { positiveAxis } from "./dimensions.js";
import type { GradientBuilder } from "./gradient-builder.js";
import {
  floatOf,
  type GradientRule,
  intOf,
  oneOutput,
  twoInputs,
} from "./gradient-rule.js";

/** Activation functions. */
export type ActivationOp =
  | "Relu"
  | "LeakyRelu"
  | "PRelu"
  | "Elu"
  | "Selu"
  | "Celu"
  | "ThresholdedRelu"
  | "Sigmoid"
  | "HardSigmoid"
  | "HardSwish"
  | "Tanh"
  | "Softplus"
  | "Softsign"
  | "Softmax"
  | "LogSoftmax";

const times = (
  derivative: (x: ValueInfo, y: ValueInfo, g: GradientBuilder) => ValueInfo,
): GradientRule =>
  oneOutput(({ x, y }, dy, g) => [g.mul(dy, derivative(x, y, g))]);

export const activationRules: Readonly<Record<ActivationOp, GradientRule>> = {
  // y = max(x, 0)       dx = dy · [y > 0]; 0 at the kink, as PyTorch has it
  // A product with the mask: onnxruntime's Where takes three passes and twice the time (16 × 256 × 64 × 32).
  Relu: oneOutput(({ y }, dy, g) => [g.mul(dy, g.greater(y, 0))]),

  // y = x > 0 ? x : α x            dx = dy · (x > 0 ? 1 : α)
  LeakyRelu: oneOutput((forward, dy, g) => {
    const alpha = floatOf(forward, "alpha", 0.01);
    return [g.mul(dy, g.add(g.mul(g.greater(forward.x, 0), 1 - alpha), alpha))];
  }),

  // y = x > 0 ? x : slope · x      dx = dy · (x > 0 ? 1 : slope), dslope = Σ dy · min(x, 0)
  PRelu: twoInputs(({ a: x, b: slope }, dy, g) => {
    const isPositive = g.isGreater(x, 0);
    const below = g.where(isPositive, 0, dy);
    return [
      g.where(isPositive, dy, g.mul(dy, slope)),
      g.sumTo(g.mul(below, x), slope.dims),
    ];
  }),

  // y = x > 0 ? x : α (eˣ − 1)     dx = dy · (x > 0 ? 1 : y + α)
  Elu: oneOutput((forward, dy, g) => {
    const isPositive = g.isGreater(forward.x, 0);
    return [
      g.mul(
        dy,
        g.where(isPositive, 1, g.add(forward.y, floatOf(forward, "alpha", 1))),
      ),
    ];
  }),

  // y = γ (x > 0 ? x : α (eˣ − 1))     dx = dy · (x > 0 ? γ : y + γ α)
  Selu: oneOutput((forward, dy, g) => {
    const alpha = floatOf(forward, "alpha", 1.6732632423543772);
    const gamma = floatOf(forward, "gamma", 1.0507009873554805);
    const isPositive = g.isGreater(forward.x, 0);
    return [
      g.mul(dy, g.where(isPositive, gamma, g.add(forward.y, gamma * alpha))),
    ];
  }),

  // y = max(0, x) + min(0, α (e^(x/α) − 1))     dx = dy · (x > 0 ? 1 : e^(x/α))
  Celu: oneOutput((forward, dy, g) => {
    const alpha = floatOf(forward, "alpha", 1);
    const isPositive = g.isGreater(forward.x, 0);
    return [g.mul(dy, g.where(isPositive, 1, g.exp(g.div(forward.x, alpha))))];
  }),

  // y = x > α ? x : 0   dx = dy · [x > α]
  ThresholdedRelu: oneOutput((forward, dy, g) => [
    g.mul(dy, g.greater(forward.x, floatOf(forward, "alpha", 1))),
  ]),

  // y = 1 / (1 + e⁻ˣ)   dx = dy · y (1 − y)
  Sigmoid: times((_, y, g) => g.mul(y, g.sub(1, y))),

  // y = clamp(α x + β, 0, 1)       dx = dy · α · [0 < y < 1]
  HardSigmoid: oneOutput((forward, dy, g) => {
    const inside = g.mul(g.greater(forward.y, 0), g.less(forward.y, 1));
    return [g.mul(g.mul(dy, inside), floatOf(forward, "alpha", 0.2))];
  }),

  // y = x · clamp(x/6 + 1/2, 0, 1)     dx = dy · (x ≤ −3 ? 0 : x ≥ 3 ? 1 : x/3 + 1/2)
  HardSwish: times((x, _, g) => {
    const inside = g.mul(g.greater(x, -3), g.less(x, 3));
    const slope = g.mul(g.add(g.mul(x, 1 / 3), 0.5), inside);
    return g.add(slope, g.sub(1, g.less(x, 3)));
  }),

  // y = tanh x          dx = dy · (1 − y²)
  Tanh: times((_, y, g) => g.sub(1, g.mul(y, y))),

  // y = ln(1 + eˣ)      dx = dy · σ(x)
  Softplus: times((x, _, g) => g.sigmoid(x)),

  // y = x / (1 + |x|)   dx = dy / (1 + |x|)²
  Softsign: oneOutput(({ x }, dy, g) => {
    const denominator = g.add(g.emit("Abs", [x], { dims: x.dims }), 1);
    return [g.div(dy, g.mul(denominator, denominator))];
  }),

  // y = softmax(x)      dx = y · (dy − Σ dy · y)
  Softmax: oneOutput((forward, dy, g) => {
    const { y } = forward;
    const axis = positiveAxis(intOf(forward, "axis", -1), y.dims.length);
    return [g.mul(y, g.sub(dy, g.sum(g.mul(dy, y), [axis], "keep")))];
  }),

  // y = x − ln Σ eˣ     dx = dy − e^y · Σ dy
  LogSoftmax: oneOutput((forward, dy, g) => {
    const { y } = forward;
    const axis = positiveAxis(intOf(forward, "axis", -1), y.dims.length);
    return [g.sub(dy, g.mul(g.exp(y), g.sum(dy, [axis], "keep")))];
  }),
};
