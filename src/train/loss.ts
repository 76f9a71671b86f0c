import { float, int } from "#onnx/builder";
import type { ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "./autodiff/gradient-builder.js";

/** Below this the squared norm of a feature counts as this (PyTorch, torch.nn.functional.normalize: ε = 1e-12). */
const SMALLEST_SQUARED_NORM = 1e-24;

/** Added to the denominator and inside the logarithm: yxgeee/SpCL spcl/models/hm.py, HybridMemory.forward. */
const LOSS_EPSILON = 1e-6;

/**
 * Rows of unit L2 norm, as nodes of a graph: f / ‖f‖₂; a zero row stays zero.
 *
 * @param features  float32 [B, D]
 */
export function normalizedFeatures(
  features: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const squared = g.sum(g.mul(features, features), [1], "keep");
  return g.div(features, g.sqrt(g.max(squared, SMALLEST_SQUARED_NORM)));
}

/** The loss's inputs, as values of a graph. */
export interface ContrastiveLossInput {
  /** float32 [B, D], unit rows. */
  readonly features: ValueInfo;
  /** float32 [K, D]: means of the memory rows of each label, not normalized. Constant for differentiation. */
  readonly prototypes: ValueInfo;
  /** int32 [B]: each crop's own prototype, in [0, K). */
  readonly prototypeOf: ValueInfo;
  /** float32 [G, B]: 1 where a crop is of a domain, else 0. */
  readonly membership: ValueInfo;
  /** τ */
  readonly temperature: number;
}

/**
 * The contrastive loss against prototypes, as nodes of a graph.
 *
 *     s_k = ⟨f, c_k⟩ / τ,   p = exp(s_own) / (Σ_k exp(s_k) + 1e-6),   loss of a domain = −mean log(p + 1e-6)
 *
 * No maximum is subtracted: |s| ≤ 1/τ = 20, and the 1e-6 beside the sum would mean something else.
 *
 * Source: Ge et al. 2020, arXiv:2006.02713; both 1e-6 as in the reference, yxgeee/SpCL spcl/models/hm.py.
 *
 * @returns float32 [G, 1], the loss of each domain
 */
export function contrastiveLoss(
  {
    features,
    prototypes,
    prototypeOf,
    membership,
    temperature,
  }: ContrastiveLossInput,
  g: GradientBuilder,
): ValueInfo {
  const [batch, dimension] = features.dims;
  const logits = g.emit(
    "Gemm",
    [features, prototypes],
    { dims: [batch, prototypes.dims[0]] },
    { attributes: { transB: int(1), alpha: float(1 / temperature) } },
  );
  const own = g.emit("Gather", [prototypes, prototypeOf], {
    dims: [batch, dimension],
  });
  const ownLogit = g.mul(
    g.sum(g.mul(features, own), [1], "keep"),
    1 / temperature,
  );
  const total = g.add(g.sum(g.exp(logits), [1], "keep"), LOSS_EPSILON);
  const probability = g.div(g.exp(ownLogit), total);
  const surprise = g.neg(g.log(g.add(probability, LOSS_EPSILON)));
  const count = g.sum(membership, [1], "keep");
  return g.div(g.matMul(membership, surprise), count);
}
