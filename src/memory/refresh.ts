import { ShapeError } from "#core/errors";

import { moveRow } from "./hybrid-memory.js";

/**
 * Averages fresh features into memory rows, all at once; `HybridMemory.recomputePrototypes` afterwards.
 *
 *     m_r ← (1 − share)·m_r + share·f_r,  then m_r ← m_r / ‖m_r‖₂
 *
 * Share 1 replaces the rows, 0 leaves them as they are: between the two lie the rows' average over many
 * views and the present encoder's opinion.
 *
 * @param rows       float32 [M, D], unit rows; changed in place
 * @param fresh      float32 [M, D], unit rows, of the same crops; only read
 * @param share      of the fresh feature, in [0, 1]
 * @param dimension  D
 * @throws {ShapeError} rows and fresh differ in size or are not [M, D]
 */
export function averageInto(
  rows: Float32Array,
  fresh: Float32Array,
  share: number,
  dimension: number,
): void {
  if (rows.length !== fresh.length || rows.length % dimension !== 0)
    throw new ShapeError(
      "fresh rows",
      `[${rows.length / dimension}, ${dimension}]`,
      `${fresh.length} numbers`,
    );
  for (let start = 0; start < rows.length; start += dimension)
    moveRow(
      rows.subarray(start, start + dimension),
      fresh.subarray(start, start + dimension),
      1 - share,
    );
}
