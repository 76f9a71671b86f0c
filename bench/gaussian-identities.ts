import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";

/** Unit rows around random unit centres. */
export interface GaussianIdentities {
  /** float32 [N, D], unit rows. */
  readonly features: Float32Array;
  /** int32 [N]: the centre of each row. */
  readonly identities: Int32Array;
}

/** Sizes and spread of the data. */
export interface GaussianOptions {
  readonly instances: number;
  readonly centres: number;
  readonly dimension: number;
  /** Length of the noise beside a centre of length 1, in the root mean square. */
  readonly spread: number;
  readonly seed: number;
}

/** Rows c + spread · g, g normal with E‖g‖² = 1, then L2; centres equally often, in random order. */
export function gaussianIdentities({
  instances,
  centres,
  dimension,
  spread,
  seed,
}: GaussianOptions): GaussianIdentities {
  const stream = randomStream(seed, "gaussian identities");
  const means = new Float32Array(centres * dimension);
  for (let n = 0; n < means.length; n++) means[n] = stream.normal();
  normalizeRows(means, dimension);
  const identities = stream.shuffle(
    Int32Array.from({ length: instances }, (_, i) => i % centres),
  );
  const features = new Float32Array(instances * dimension);
  const scale = spread / Math.sqrt(dimension);
  for (let i = 0; i < instances; i++)
    for (let d = 0; d < dimension; d++)
      features[i * dimension + d] =
        means[identities[i] * dimension + d] + scale * stream.normal();
  return { features: normalizeRows(features, dimension), identities };
}
