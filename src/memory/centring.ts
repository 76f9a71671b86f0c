import { normalizeRows } from "#core/vectors";

/** Cameras with fewer rows have no mean worth the name and share one: spcl-reid's own choice, measured with k1 = 30. */
const MIN_CAMERA_ROWS = 50;

/**
 * Removes each camera's mean from its rows, then L2: tint, background and blur are the camera's, not the identity's.
 *
 * For the input of the clustering only; the memory stays as it is. Cameras with fewer than 50 rows
 * share the mean of their rows together, and where those are fewer than 50 as well, that of all rows.
 *
 * @param features   float32 [N, D], unit rows; only read
 * @param cameraIds  [N]
 * @param dimension  D
 * @returns          float32 [N, D], unit rows (zero where a row equals its mean); owned by the caller
 */
export function centreByCamera(
  features: Float32Array,
  cameraIds: ArrayLike<number>,
  dimension: number,
): Float32Array<ArrayBuffer> {
  const groups = meanGroups(cameraIds);
  const groupCount = groups.reduce((most, g) => Math.max(most, g + 1), 0);
  const sums = new Float64Array(groupCount * dimension);
  const counts = new Float64Array(groupCount);
  for (let i = 0; i < groups.length; i++) {
    counts[groups[i]]++;
    const start = groups[i] * dimension;
    for (let d = 0; d < dimension; d++)
      sums[start + d] += features[i * dimension + d];
  }
  if (groupCount > 0 && counts[0] < MIN_CAMERA_ROWS)
    useMeanOfAll(sums, counts, dimension);
  const centred = new Float32Array(features.length);
  for (let i = 0; i < groups.length; i++) {
    const start = groups[i] * dimension;
    for (let d = 0; d < dimension; d++)
      centred[i * dimension + d] =
        features[i * dimension + d] - sums[start + d] / counts[groups[i]];
  }
  normalizeRows(centred, dimension);
  return centred;
}

/** Group 0 for the rows of all small cameras; one group each for the others, by rising camera id. */
function meanGroups(cameraIds: ArrayLike<number>): Int32Array {
  const rows = new Map<number, number>();
  for (let i = 0; i < cameraIds.length; i++)
    rows.set(cameraIds[i], (rows.get(cameraIds[i]) ?? 0) + 1);
  const large = [...rows.keys()]
    .filter((camera) => (rows.get(camera) ?? 0) >= MIN_CAMERA_ROWS)
    .sort((a, b) => a - b);
  const group = new Map(large.map((camera, g) => [camera, g + 1]));
  return Int32Array.from(cameraIds, (camera) => group.get(camera) ?? 0);
}

/** Writes the sum over all rows, scaled to group 0's count, in group 0's place. */
function useMeanOfAll(
  sums: Float64Array,
  counts: Float64Array,
  dimension: number,
): void {
  const all = counts.reduce((a, b) => a + b, 0);
  for (let d = 0; d < dimension; d++) {
    let sum = 0;
    for (let g = 0; g < counts.length; g++) sum += sums[g * dimension + d];
    sums[d] = (sum * counts[0]) / all;
  }
}
