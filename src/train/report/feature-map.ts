import { randomStream } from "#core/random";

/** How a map is made. */
export interface FeatureMapOptions {
  readonly seed: number;
  /** Effective number of neighbours; 20 by default, less where there are few features. */
  readonly perplexity?: number;
  /** 400 by default. */
  readonly iterations?: number;
}

/**
 * Lays features out in the plane so that neighbours stay neighbours: exact t-SNE on squared distances.
 *
 * Costs iterations · N²: give it at most about a thousand features. Deterministic by seed.
 *
 * Source: van der Maaten and Hinton 2008, JMLR 9 (t-SNE; early exaggeration, momentum and per-coordinate gains
 * as there).
 *
 * @param features   float32 [N, D], unit rows; only read
 * @param dimension  D
 * @returns          float32 [N, 2], mean 0, the farthest coordinate at 1
 */
export function featureMap(
  features: Float32Array,
  dimension: number,
  { seed, perplexity = 20, iterations = 400 }: FeatureMapOptions,
): Float32Array {
  const count = features.length / dimension;
  const random = randomStream(seed, "feature map");
  const at = Float64Array.from(
    { length: count * 2 },
    () => random.normal() * 1e-2,
  );
  if (count > 2) {
    const wanted = Math.min(perplexity, (count - 1) / 3);
    const affinity = affinities(
      squaredDistances(features, dimension),
      count,
      wanted,
    );
    descend(at, affinity, count, iterations);
  }
  return centred(at);
}

function squaredDistances(
  features: Float32Array,
  dimension: number,
): Float64Array {
  const count = features.length / dimension;
  const distances = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = i + 1; j < count; j++) {
      let sum = 0;
      for (let d = 0; d < dimension; d++) {
        const difference =
          features[i * dimension + d] - features[j * dimension + d];
        sum += difference * difference;
      }
      distances[i * count + j] = sum;
      distances[j * count + i] = sum;
    }
  return distances;
}

/** Symmetric p_ij: each row's bandwidth is found by bisection so that its entropy is log(perplexity). */
function affinities(
  distances: Float64Array,
  count: number,
  perplexity: number,
): Float64Array {
  const conditional = new Float64Array(count * count);
  const wanted = Math.log(perplexity);
  for (let i = 0; i < count; i++) {
    let [low, high, beta] = [0, Infinity, 1];
    for (let step = 0; step < 50; step++) {
      let sum = 0;
      let weighted = 0;
      for (let j = 0; j < count; j++) {
        const p = j === i ? 0 : Math.exp(-beta * distances[i * count + j]);
        conditional[i * count + j] = p;
        sum += p;
        weighted += p * distances[i * count + j];
      }
      const total = Math.max(sum, Number.MIN_VALUE);
      const entropy = Math.log(total) + (beta * weighted) / total;
      for (let j = 0; j < count; j++) conditional[i * count + j] /= total;
      if (Math.abs(entropy - wanted) < 1e-4) break;
      if (entropy > wanted) low = beta;
      else high = beta;
      beta = high === Infinity ? beta * 2 : (low + high) / 2;
    }
  }
  const joint = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < count; j++)
      joint[i * count + j] = Math.max(
        (conditional[i * count + j] + conditional[j * count + i]) / (2 * count),
        1e-12,
      );
  return joint;
}

function descend(
  at: Float64Array,
  affinity: Float64Array,
  count: number,
  iterations: number,
): void {
  const exaggerated = Math.min(100, iterations / 4);
  const rate = Math.max(20, count / 12);
  const speed = new Float64Array(at.length);
  const gains = new Float64Array(at.length).fill(1);
  const gradient = new Float64Array(at.length);
  const closeness = new Float64Array(count * count);
  for (let iteration = 0; iteration < iterations; iteration++) {
    let total = 0;
    for (let i = 0; i < count; i++)
      for (let j = i + 1; j < count; j++) {
        const dx = at[2 * i] - at[2 * j];
        const dy = at[2 * i + 1] - at[2 * j + 1];
        const q = 1 / (1 + dx * dx + dy * dy);
        closeness[i * count + j] = q;
        total += 2 * q;
      }
    gradient.fill(0);
    const factor = iteration < exaggerated ? 12 : 1;
    for (let i = 0; i < count; i++)
      for (let j = i + 1; j < count; j++) {
        const q = closeness[i * count + j];
        const pull = 4 * (factor * affinity[i * count + j] - q / total) * q;
        const dx = pull * (at[2 * i] - at[2 * j]);
        const dy = pull * (at[2 * i + 1] - at[2 * j + 1]);
        gradient[2 * i] += dx;
        gradient[2 * i + 1] += dy;
        gradient[2 * j] -= dx;
        gradient[2 * j + 1] -= dy;
      }
    const momentum = iteration < exaggerated ? 0.5 : 0.8;
    for (let k = 0; k < at.length; k++) {
      const isTurning = gradient[k] > 0 !== speed[k] > 0;
      gains[k] = Math.max(0.01, isTurning ? gains[k] + 0.2 : gains[k] * 0.8);
      speed[k] = momentum * speed[k] - rate * gains[k] * gradient[k];
      at[k] += speed[k];
    }
  }
}

function centred(at: Float64Array): Float32Array {
  const count = at.length / 2;
  const mean = [0, 0];
  for (let k = 0; k < at.length; k++) mean[k % 2] += at[k] / count;
  let farthest = 1e-9;
  for (let k = 0; k < at.length; k++)
    farthest = Math.max(farthest, Math.abs(at[k] - mean[k % 2]));
  return Float32Array.from(at, (value, k) => (value - mean[k % 2]) / farthest);
}
