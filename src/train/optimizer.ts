import type { ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "./autodiff/gradient-builder.js";

/** What fixes Adam's step. */
export interface AdamSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Added to the gradient (L2), not decoupled. */
  readonly weightDecay: number;
}

/** The scalars of one update, shared by all parameters. */
export interface AdamStep {
  /** learning rate · √(1 − β2ᵗ) / (1 − β1ᵗ) */
  readonly size: ValueInfo;
  /** ε · √(1 − β2ᵗ) */
  readonly epsilon: ValueInfo;
}

/**
 * The bias-corrected step, as nodes of a graph, in float64: 1 − 0.999ᵗ has lost four digits in float32.
 *
 * @param learningRate  float64 scalar
 * @param step          float64 scalar, t, 1 at the first update
 */
export function adamStep(
  learningRate: ValueInfo,
  step: ValueInfo,
  { beta1, beta2, epsilon }: AdamSettings,
  g: GradientBuilder,
): AdamStep {
  const double = (value: number) =>
    g.constant({ dataType: "float64", dims: [], data: Float64Array.of(value) });
  const scalar = (opType: string, ...inputs: ValueInfo[]) =>
    g.emit(opType, inputs, { dims: [], dataType: "float64" });
  const bias = (beta: number) =>
    scalar("Sub", double(1), scalar("Pow", double(beta), step));
  const correction = scalar("Sqrt", bias(beta2));
  const size = scalar(
    "Div",
    scalar("Mul", learningRate, correction),
    bias(beta1),
  );
  return {
    size: g.cast(size, "float32"),
    epsilon: g.cast(scalar("Mul", double(epsilon), correction), "float32"),
  };
}

/**
 * One update of all parameters of a group, laid out as one vector, as nodes of a graph.
 *
 *     g ← ∇ + λ·w,  m ← β1·m + (1 − β1)·g,  v ← β2·v + (1 − β2)·g²,
 *     w ← w − lr/(1 − β1ᵗ) · m / (√v / √(1 − β2ᵗ) + ε)
 *
 * The last line with both sides of the fraction times √(1 − β2ᵗ): a pass over all parameters less.
 *
 * Source: Kingma and Ba 2015, arXiv:1412.6980; weight decay and the place of ε as torch.optim.Adam has them.
 *
 * @param group  float32 [P] each: parameters w, their gradient, first and second moment
 * @returns      the three new vectors; each is written by the last node that reads the old one, so that both
 *               may lie in the same memory
 */
export function adamUpdate(
  group: {
    readonly weights: ValueInfo;
    readonly gradient: ValueInfo;
    readonly moment1: ValueInfo;
    readonly moment2: ValueInfo;
  },
  step: AdamStep,
  { beta1, beta2, weightDecay }: AdamSettings,
  g: GradientBuilder,
): {
  readonly weights: ValueInfo;
  readonly moment1: ValueInfo;
  readonly moment2: ValueInfo;
} {
  const { weights } = group;
  const gradient =
    weightDecay === 0
      ? group.gradient
      : g.add(group.gradient, g.mul(weights, weightDecay));
  const moment1 = g.add(
    g.mul(group.moment1, beta1),
    g.mul(gradient, 1 - beta1),
  );
  const moment2 = g.add(
    g.mul(group.moment2, beta2),
    g.mul(g.mul(gradient, gradient), 1 - beta2),
  );
  const denominator = g.add(g.sqrt(moment2), step.epsilon);
  const next = g.sub(weights, g.mul(g.div(moment1, denominator), step.size));
  return { weights: next, moment1, moment2 };
}
