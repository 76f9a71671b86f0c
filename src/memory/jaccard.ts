import { ShapeError } from "#core/errors";

import {
  averageOverNeighbours,
  encodeRows,
  ReciprocalSets,
  SparseRowsBuilder,
  transpose,
  type RowDistance,
  type SparseRows,
} from "./reciprocal.js";

/**
 * Symmetric list of the pairs that are near: row i holds each j with distance ≤ maxDistance, itself
 * included, columns rising; `values` are the distances. Pairs not listed are farther.
 */
export type SparseDistances = SparseRows;

/** What fixes the k-reciprocal Jaccard distance. */
export interface JaccardOptions {
  /** D. */
  readonly dimension: number;
  /** Neighbours that make a reciprocal set, itself counted; 30 in the paper. */
  readonly k1: number;
  /** Rows averaged in local query expansion, itself counted; 6 in the paper, 1 switches it off. */
  readonly k2: number;
  /** Pairs farther than this are left out; in (0, 1). Compared in float32. */
  readonly maxDistance: number;
}

/**
 * k-reciprocal Jaccard distance of all near pairs, without an N × N array.
 *
 *     V_i = softmax over R*(i) of −d,  d = 2 − 2⟨f_i, f_j⟩;   V_i ← mean of V_j over N(i, k2)
 *     J(i, j) = 1 − Σmin / (2 − Σmin),  Σmin = Σ_l min(V_il, V_jl), floored at 0
 *
 * Memory and time grow with N times the sizes of the sets. Where a list is shorter than k1 (fewer
 * rows, or −1 from an approximate search) the sets are made of what is there.
 *
 * Source: Zhong et al., CVPR 2017; inverted lists as in yxgeee/SpCL spcl/utils/faiss_rerank.py,
 * compute_jaccard_distance.
 *
 * @param features    float32 [N, D], unit rows; only read
 * @param neighbours  int32 [N, width], by falling similarity, itself first; its first k1 columns are used
 * @throws {ShapeError} features is not [N, D] or neighbours not [N, width]
 */
export function jaccardDistance(
  features: Float32Array,
  neighbours: Int32Array,
  options: JaccardOptions,
): SparseDistances {
  const { dimension, k1, k2, maxDistance } = options;
  const count = rowsOf(features, neighbours, dimension);
  const width = count === 0 ? 0 : neighbours.length / count;
  const lists = { neighbours, width, k1, reach: Math.min(k1, width) };
  const encoded = encodeRows(
    new ReciprocalSets(count, lists),
    squaredDistance(features, dimension),
  );
  return pairsFromEncoding(
    averageOverNeighbours(encoded, k2, lists),
    maxDistance,
  );
}

function rowsOf(
  features: Float32Array,
  neighbours: Int32Array,
  dimension: number,
): number {
  const count = features.length / dimension;
  if (!Number.isInteger(count))
    throw new ShapeError(
      "features",
      `[N, ${dimension}]`,
      `${features.length} numbers`,
    );
  if (count > 0 && neighbours.length % count !== 0)
    throw new ShapeError(
      "neighbours",
      `[${count}, k]`,
      `${neighbours.length} numbers`,
    );
  return count;
}

/** d = 2 − 2⟨f_i, f_j⟩, four products at a time so that the sums do not wait for one another. */
export function squaredDistance(
  features: Float32Array,
  dimension: number,
): RowDistance {
  const blocked = dimension - (dimension % 4);
  return (row, members, count, out) => {
    const a = row * dimension;
    for (let m = 0; m < count; m++) {
      const b = members[m] * dimension;
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      let d = 0;
      for (; d < blocked; d += 4) {
        s0 += features[a + d] * features[b + d];
        s1 += features[a + d + 1] * features[b + d + 1];
        s2 += features[a + d + 2] * features[b + d + 2];
        s3 += features[a + d + 3] * features[b + d + 3];
      }
      for (; d < dimension; d++) s0 += features[a + d] * features[b + d];
      out[m] = 2 - 2 * (s0 + s1 + (s2 + s3));
    }
  };
}

/**
 * Near pairs of encoded rows, found by walking inverted lists.
 *
 * @param encoded      [M, columnCount], each row summing to 1
 * @param maxDistance  compared in float32
 * @returns            over the M rows
 */
export function pairsFromEncoding(
  encoded: SparseRows,
  maxDistance: number,
  columnCount = encoded.rowStart.length - 1,
): SparseDistances {
  return mirror(upperPairs(encoded, maxDistance, columnCount));
}

/** Pairs j ≥ i. A column's list holds its rows in rising order; those before i are done with and skipped. */
function upperPairs(
  encoded: SparseRows,
  maxDistance: number,
  columnCount: number,
): SparseRows {
  const { rowStart, columns, values } = encoded;
  const count = rowStart.length - 1;
  const lists = transpose(encoded, columnCount);
  const heads = lists.rowStart.slice();
  const limit = Math.fround(maxDistance);
  const overlap = new Float64Array(count);
  const touched = new Int32Array(count);
  const near = new Int32Array(count);
  const distance = new Float64Array(count);
  const pairs = new SparseRowsBuilder(count, 16);
  for (let i = 0; i < count; i++) {
    let size = 0;
    for (let p = rowStart[i]; p < rowStart[i + 1]; p++) {
      const column = columns[p];
      const own = values[p];
      // Row i itself is the first that is left in each of its columns.
      const head = heads[column]++;
      const end = lists.rowStart[column + 1];
      for (let q = head; q < end; q++) {
        const j = lists.columns[q];
        const other = lists.values[q];
        if (overlap[j] === 0) touched[size++] = j;
        overlap[j] += own < other ? own : other;
      }
    }
    let kept = 0;
    for (let t = 0; t < size; t++) {
      const j = touched[t];
      const jaccard = Math.max(0, 1 - overlap[j] / (2 - overlap[j]));
      overlap[j] = 0;
      if (Math.fround(jaccard) > limit) continue;
      near[kept] = j;
      distance[kept++] = jaccard;
    }
    pairs.append(near, distance, kept);
  }
  return pairs.build();
}

/** The whole symmetric list from its upper half: transposing sorts, so row i is (j ≤ i) then (j > i). */
function mirror(upper: SparseRows): SparseDistances {
  const count = upper.rowStart.length - 1;
  const lower = transpose(upper);
  const sortedUpper = transpose(lower);
  const rowStart = new Int32Array(count + 1);
  for (let i = 0; i < count; i++)
    rowStart[i + 1] =
      rowStart[i] +
      (lower.rowStart[i + 1] - lower.rowStart[i]) +
      (sortedUpper.rowStart[i + 1] - sortedUpper.rowStart[i] - 1);
  const columns = new Int32Array(rowStart[count]);
  const values = new Float32Array(rowStart[count]);
  for (let i = 0; i < count; i++) {
    const split = rowStart[i] + lower.rowStart[i + 1] - lower.rowStart[i];
    const [l, lEnd] = [lower.rowStart[i], lower.rowStart[i + 1]];
    // The diagonal is the first entry of the upper row and already the last of the lower one.
    const [u, uEnd] = [
      sortedUpper.rowStart[i] + 1,
      sortedUpper.rowStart[i + 1],
    ];
    columns.set(lower.columns.subarray(l, lEnd), rowStart[i]);
    values.set(lower.values.subarray(l, lEnd), rowStart[i]);
    columns.set(sortedUpper.columns.subarray(u, uEnd), split);
    values.set(sortedUpper.values.subarray(u, uEnd), split);
  }
  return { rowStart, columns, values };
}
