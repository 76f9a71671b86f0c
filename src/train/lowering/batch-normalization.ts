import { assert } from "#core/errors";
import { float } from "#onnx/builder";
import type { Dimension, Node, ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "../autodiff/gradient-builder.js";
import type { Lowering } from "./lowering-rule.js";

/**
 * Batch normalization in training, for crops of G domains at once.
 *
 *     (x [B, C, …], scale [G, C], bias [G, C], membership [G, B]) → y [B, C, …], mean [G, C], variance [G, C]
 *
 * membership[d, b] is 1 where crop b is of domain d, else 0. The variance is the biased one.
 */
export type LoweredBatchNormalization =
  "DomainBatchNormalization" | "DomainBatchNormalizationGradient";

export const batchNormalizationLowerings: Readonly<
  Record<LoweredBatchNormalization, Lowering>
> = {
  // Sums over the positions of each crop first: domains then differ in [B, C] numbers only, and no value is split
  // or joined by domain. y = a·x + b with a, b per crop and channel is one fused operator.
  DomainBatchNormalization: (
    { node, inputs: [x, scale, bias, membership] },
    g,
  ) => {
    const positions = positionsOf(x);
    const planes = g.reshape(x, [x.dims[0], x.dims[1], positions], x);
    const count = g.sum(membership, [1], "keep");
    const perCrop =
      positions === 1 ? g.reshape(x, x.dims.slice(0, 2)) : g.mean(planes, [2]);
    const mean = g.div(g.matMul(membership, perCrop), count);
    const centre = g.matMul(membership, mean, "left");
    const deviation = g.sub(perCrop, centre);
    // Var = mean over crops of (variance within the crop + squared deviation of the crop's mean).
    const squares = g.mul(deviation, deviation);
    const within =
      positions === 1
        ? squares
        : g.add(squares, withinCrop(x, perCrop, positions, g));
    const variance = g.div(g.matMul(membership, within), count);
    const factor = g.mul(scale, inverseDeviation(variance, node, g));
    const offset = g.sub(bias, g.mul(mean, factor));
    const y = affine(
      x,
      g.matMul(membership, factor, "left"),
      g.matMul(membership, offset, "left"),
      g,
    );
    return [y, mean, variance];
  },

  // dx = γ/σ · (dy − mean dy − x̂ · mean(dy · x̂)) = a·dy + b·x + c with a, b, c per crop's domain and channel
  DomainBatchNormalizationGradient: (
    { node, inputs: [dy, x, scale, membership, mean, variance] },
    g,
  ) => {
    const positions = positionsOf(x);
    const count = g.mul(g.sum(membership, [1], "keep"), positions);
    const perCrop = (v: ValueInfo) =>
      positions === 1
        ? g.reshape(v, v.dims.slice(0, 2))
        : g.sum(g.reshape(v, [v.dims[0], v.dims[1], positions], v), [2]);
    const sum = perCrop(dy);
    const centred = g.sub(
      products(dy, x, positions, g),
      g.mul(sum, g.matMul(membership, mean, "left")),
    );
    const inverse = inverseDeviation(variance, node, g);
    const dBias = g.matMul(membership, sum);
    const dScale = g.mul(g.matMul(membership, centred), inverse);
    const a = g.mul(scale, inverse);
    const b = g.neg(g.div(g.mul(g.mul(a, inverse), dScale), count));
    const c = g.neg(g.add(g.div(g.mul(a, dBias), count), g.mul(b, mean)));
    const spread = (v: ValueInfo) => g.matMul(membership, v, "left");
    const zero = g.mul(spread(a), 0);
    const dx = g.add(
      affine(dy, spread(a), zero, g),
      affine(x, spread(b), spread(c), g),
    );
    return [dx, dScale, dBias];
  },
};

/** Variance of the positions of each crop and channel: mean of squares less square of mean, never below 0. */
function withinCrop(
  x: ValueInfo,
  perCrop: ValueInfo,
  positions: number,
  g: GradientBuilder,
): ValueInfo {
  const squares = g.div(products(x, x, positions, g), positions);
  return g.max(g.sub(squares, g.mul(perCrop, perCrop)), 0);
}

/** From so many positions on, a product of a row and a column is the fastest sum of products. */
const LONG_PLANE = 512;

/** Σ a · b over the positions of each crop and channel, [B, C]. */
function products(
  a: ValueInfo,
  b: ValueInfo,
  positions: number,
  g: GradientBuilder,
): ValueInfo {
  const [batch, channels] = a.dims;
  if (positions === 1) return g.reshape(g.mul(a, b), [batch, channels]);
  if (positions < LONG_PLANE) {
    const planes = (v: ValueInfo) =>
      g.reshape(v, [batch, channels, positions], v);
    return a === b
      ? g.sumSquare(planes(a), [2])
      : g.sum(planes(g.mul(a, b)), [2]);
  }
  const rows = (v: ValueInfo) => g.reshape(v, ["planes", 1, positions]);
  return g.reshape(g.matMul(rows(a), rows(b), "right"), [batch, channels]);
}

function inverseDeviation(
  variance: ValueInfo,
  { attributes }: Node,
  g: GradientBuilder,
): ValueInfo {
  const { epsilon } = attributes;
  assert(epsilon?.type === "float", "batch normalization has epsilon");
  return g.reciprocal(g.sqrt(g.add(variance, epsilon.value)));
}

/**
 * factor · v + offset for each crop and channel, by BatchNormalization over crops and channels as channels:
 * one pass over memory where Mul and Add take two.
 */
function affine(
  v: ValueInfo,
  factor: ValueInfo,
  offset: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const positions = positionsOf(v);
  if (positions === 1) {
    const shaped = (vector: ValueInfo) => g.reshape(vector, v.dims, v);
    return g.add(g.mul(v, shaped(factor)), shaped(offset));
  }
  const planes = g.emit("Reshape", [v, g.ints([1, -1, positions])], {
    dims: [1, "planes", positions],
  });
  const flat = (vector: ValueInfo) =>
    g.emit("Reshape", [vector, g.ints([-1])], { dims: ["planes"] });
  const zeros = g.mul(flat(factor), 0);
  const ones = g.add(zeros, 1);
  const dims: Dimension[] = [1, "planes", positions];
  const y = g.emit(
    "BatchNormalization",
    [planes, flat(factor), flat(offset), zeros, ones],
    { dims },
    { attributes: { epsilon: float(0) } },
  );
  return g.reshape(y, v.dims, v);
}

/** Positions of each crop and channel. */
function positionsOf({ name, dims }: ValueInfo): number {
  return dims.slice(2).reduce<number>((product, dim) => {
    assert(typeof dim === "number", `height and width of "${name}" are known`);
    return product * dim;
  }, 1);
}
