/**
 * Inner products of all pairs, row-major; an engine's matrix product where there is one.
 *
 * @param a  float32 [M, D]; only read
 * @param b  float32 [N, D]; only read, the same buffer from call to call
 * @returns  float32 [M, N]; valid until the next call
 */
export type Similarities = (
  a: Float32Array,
  b: Float32Array,
  dimension: number,
) => Promise<Float32Array> | Float32Array;

/** Distances of some rows of one set to all of another. */
export interface DistanceBlock {
  /** Row of the first set that the block begins with. */
  readonly first: number;
  /** Rows in the block. */
  readonly count: number;
  /** float32 [count, N]; valid until the next block. */
  readonly distances: Float32Array;
}

/** Numbers a block may hold: 64 MiB of float32. */
const BLOCK_NUMBERS = 1 << 24;

/**
 * Squared L2 distances of unit rows, a block of rows at a time.
 *
 *     d = 2 − 2⟨a, b⟩, floored at 0
 *
 * @param a  float32 [M, D], unit rows
 * @param b  float32 [N, D], unit rows
 */
export async function* squaredDistanceBlocks(
  a: Float32Array,
  b: Float32Array,
  dimension: number,
  similarities: Similarities = plainSimilarities,
): AsyncGenerator<DistanceBlock> {
  const rows = a.length / dimension;
  const columns = b.length / dimension;
  const step = Math.max(1, Math.floor(BLOCK_NUMBERS / Math.max(1, columns)));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const part = a.subarray(first * dimension, (first + count) * dimension);
    const distances = await similarities(part, b, dimension);
    for (let n = 0; n < distances.length; n++)
      distances[n] = Math.max(0, 2 - 2 * distances[n]);
    yield { first, count, distances };
  }
}

/** Inner products in loops, four rows of `b` at a time; about 1.2 GMAC/s at D = 2048. */
export function plainSimilarities(
  a: Float32Array,
  b: Float32Array,
  dimension: number,
): Float32Array {
  const rows = a.length / dimension;
  const columns = b.length / dimension;
  const products = new Float32Array(rows * columns);
  const blocked = columns - (columns % 4);
  for (let j = 0; j < blocked; j += 4) {
    const b0 = j * dimension;
    const b1 = b0 + dimension;
    const b2 = b1 + dimension;
    const b3 = b2 + dimension;
    for (let i = 0; i < rows; i++) {
      const start = i * dimension;
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let d = 0; d < dimension; d++) {
        const x = a[start + d];
        s0 += x * b[b0 + d];
        s1 += x * b[b1 + d];
        s2 += x * b[b2 + d];
        s3 += x * b[b3 + d];
      }
      const out = i * columns + j;
      products[out] = s0;
      products[out + 1] = s1;
      products[out + 2] = s2;
      products[out + 3] = s3;
    }
  }
  for (let j = blocked; j < columns; j++)
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let d = 0; d < dimension; d++)
        sum += a[i * dimension + d] * b[j * dimension + d];
      products[i * columns + j] = sum;
    }
  return products;
}
