import { ShapeError } from "./errors.js";

/** Inner product of two equally long vectors. */
export function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** L2 norm. */
export function norm(a: Float32Array): number {
  return Math.sqrt(dot(a, a));
}

/**
 * Scales each row to unit L2 norm, in place; a zero row stays zero.
 *
 * @param rows       float32 [N, D], changed in place
 * @param dimension  D
 * @throws {ShapeError} the length is no multiple of D
 */
export function normalizeRows(
  rows: Float32Array,
  dimension: number,
): Float32Array {
  if (rows.length % dimension !== 0)
    throw new ShapeError("rows", `[N, ${dimension}]`, `${rows.length} numbers`);
  for (let start = 0; start < rows.length; start += dimension) {
    let sum = 0;
    for (let i = start; i < start + dimension; i++) sum += rows[i] * rows[i];
    const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
    for (let i = start; i < start + dimension; i++) rows[i] *= scale;
  }
  return rows;
}
