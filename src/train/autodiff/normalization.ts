import { float } from "#onnx/builder";
import type { ValueInfo } from "#onnx/graph";
import { positiveAxis } from "./dimensions.js";
import { GRADIENT_DOMAIN } from "./convolution.js";
import type { GradientBuilder } from "./gradient-builder.js";
import { floatOf, type GradientRule, intOf } from "./gradient-rule.js";

/** Operators that shift and scale by statistics. `DomainBatchNormalization` is ours, see lowering/batch-normalization.ts. */
export type NormalizationOp =
  | "BatchNormalization"
  | "InstanceNormalization"
  | "LayerNormalization"
  | "DomainBatchNormalization";

export const normalizationRules: Readonly<
  Record<NormalizationOp, GradientRule>
> = {
  // y = γ (x − μ) / √(σ² + ε) + β
  // evaluation: μ, σ² are constants      dx = dy · γ/σ,  dγ = Σ dy · x̂,  dβ = Σ dy
  // training: they are the batch's       dx = γ/σ · (dy − mean dy − x̂ · mean(dy · x̂))
  BatchNormalization: (forward, [dy], g) => {
    const [x, scale, bias, runningMean, runningVariance] = forward.inputs;
    if (!x || !scale || !bias || !runningMean || !runningVariance || !dy)
      return [];
    const epsilon = floatOf(forward, "epsilon", 1e-5);
    const axes = x.dims.flatMap((_, axis) => (axis === 1 ? [] : [axis]));
    const isTraining = intOf(forward, "training_mode", 0) === 1;
    const perChannel = (v: ValueInfo) =>
      g.reshape(
        v,
        x.dims.map((_, axis) => (axis === 1 ? v.dims[0] : 1)),
      );
    const centred = g.sub(
      x,
      isTraining ? g.mean(x, axes, "keep") : perChannel(runningMean),
    );
    const variance = isTraining
      ? g.mean(g.mul(centred, centred), axes, "keep")
      : perChannel(runningVariance);
    const parts = { centred, variance, epsilon, axes };
    const statistics = isTraining ? "from the values" : "constant";
    const { dx, dScale, dBias } = normalized(parts, dy, g, {
      scale: perChannel(scale),
      statistics,
    });
    return [dx, g.reshape(dScale, scale.dims), g.reshape(dBias, bias.dims)];
  },

  // As batch normalization in training, over the positions of each crop and channel.
  InstanceNormalization: (forward, [dy], g) => {
    const [x, scale, bias] = forward.inputs;
    if (!x || !scale || !bias || !dy) return [];
    const axes = x.dims.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
    const channels = [1, scale.dims[0], ...axes.map(() => 1)];
    const centred = g.sub(x, g.mean(x, axes, "keep"));
    const variance = g.mean(g.mul(centred, centred), axes, "keep");
    const parts = {
      centred,
      variance,
      epsilon: floatOf(forward, "epsilon", 1e-5),
      axes,
    };
    const { dx, dScale, dBias } = normalized(parts, dy, g, {
      scale: g.reshape(scale, channels),
      statistics: "from the values",
    });
    return [
      dx,
      g.reshape(g.sumTo(dScale, channels), scale.dims),
      g.reshape(g.sumTo(dBias, channels), bias.dims),
    ];
  },

  // As above, over the last axes of each row; γ and β have the shape of those axes.
  LayerNormalization: (forward, [dy], g) => {
    const [x, scale, bias] = forward.inputs;
    if (!x || !scale || !dy) return [];
    if (forward.outputs[1] || forward.outputs[2])
      forward.unsupported(
        "its mean or deviation is used",
        "export the encoder without these outputs",
      );
    const from = positiveAxis(intOf(forward, "axis", -1), x.dims.length);
    const axes = x.dims.flatMap((_, axis) => (axis < from ? [] : [axis]));
    const centred = g.sub(x, g.mean(x, axes, "keep"));
    const variance = g.mean(g.mul(centred, centred), axes, "keep");
    const inverse = g.reciprocal(
      g.sqrt(g.add(variance, floatOf(forward, "epsilon", 1e-5))),
    );
    const normal = g.mul(centred, inverse);
    const scaled = g.mul(dy, scale);
    const projected = g.mul(
      normal,
      g.mean(g.mul(scaled, normal), axes, "keep"),
    );
    const dx = g.mul(
      g.sub(g.sub(scaled, g.mean(scaled, axes, "keep")), projected),
      inverse,
    );
    return [
      dx,
      g.sumTo(g.mul(dy, normal), scale.dims),
      bias && g.sumTo(dy, bias.dims),
    ];
  },

  // Batch normalization in training, each domain's crops by their own statistics and affine parameters.
  DomainBatchNormalization: (forward, [dy], g) => {
    const [x, scale, bias, membership] = forward.inputs;
    const [, mean, variance] = forward.outputs;
    if (!x || !scale || !bias || !membership || !mean || !variance || !dy)
      return [];
    return g.emitMany(
      "DomainBatchNormalizationGradient",
      [dy, x, scale, membership, mean, variance],
      [{ dims: x.dims }, { dims: scale.dims }, { dims: bias.dims }],
      {
        domain: GRADIENT_DOMAIN,
        attributes: { epsilon: float(floatOf(forward, "epsilon", 1e-5)) },
      },
    );
  },
};

function normalized(
  {
    centred,
    variance,
    epsilon,
    axes,
  }: {
    readonly centred: ValueInfo;
    readonly variance: ValueInfo;
    readonly epsilon: number;
    readonly axes: readonly number[];
  },
  dy: ValueInfo,
  g: GradientBuilder,
  {
    scale,
    statistics,
  }: {
    readonly scale: ValueInfo;
    readonly statistics: "constant" | "from the values";
  },
): {
  readonly dx: ValueInfo;
  readonly dScale: ValueInfo;
  readonly dBias: ValueInfo;
} {
  const inverse = g.reciprocal(g.sqrt(g.add(variance, epsilon)));
  const normal = g.mul(centred, inverse);
  const trailing = axes.filter((axis) => axis >= 2);
  const leading = axes.filter((axis) => axis < 2);
  const total = (v: ValueInfo) =>
    g.sum(g.sum(v, trailing, "keep"), leading, "keep");
  const dBias = total(dy);
  const dScale = total(g.mul(dy, normal));
  const factor = g.mul(inverse, scale);
  if (statistics === "constant")
    return { dx: g.mul(dy, factor), dScale, dBias };
  const count = g.count(centred, axes);
  const mean = g.div(dBias, count);
  const projected = g.mul(normal, g.div(dScale, count));
  return {
    dx: g.mul(g.sub(g.sub(dy, mean), projected), factor),
    dScale,
    dBias,
  };
}
