import { exactIndex } from "#index/binding";
import { squaredDistance } from "#memory/jaccard";
import {
  averageOverNeighbours,
  encodeRows,
  ReciprocalSets,
  type SparseRows,
} from "#memory/reciprocal";

/** What fixes re-ranking. */
export interface RerankSettings {
  /** Neighbours that make a reciprocal set, the row itself not counted; 1 to 100. */
  readonly k1: number;
  /** Rows averaged in local query expansion, itself counted; 1 to k1. */
  readonly k2: number;
  /** λ: share of the plain distance, [0, 1]. */
  readonly distanceShare: number;
}

/** A query and the entries that it is to be re-ranked among. */
export interface RerankInput {
  /** float32 [1 + C, D], unit rows, the query's first; only read. */
  readonly features: Float32Array;
  /** D. */
  readonly dimension: number;
}

/**
 * Re-ranked distances of a query to its candidates.
 *
 *     d(i, j) = ‖f_i − f_j‖² / max_j ‖f_i − f_j‖² over the query and its candidates
 *     final   = (1 − λ) J + λ d
 *
 * J is the k-reciprocal Jaccard distance with V_i ∝ exp(−d) over neighbours by d. `reid eval --rerank` squares
 * d once more, as the reference does, and sees the whole gallery. Seconds for the largest: call it in a worker
 * (`Reranker`).
 *
 * Source: Zhong et al., CVPR 2017.
 *
 * @returns  float32 [C], [0, 1], smaller is closer; in the order of the candidates
 */
export async function rerankedDistances(
  { features, dimension }: RerankInput,
  { k1, k2, distanceShare }: RerankSettings,
): Promise<Float32Array<ArrayBuffer>> {
  const count = features.length / dimension;
  const width = Math.min(k1 + 1, count);
  const { neighbours, largest } = await rankRows(features, dimension, width);
  const lists = { neighbours, width, reach: width, k1 };
  const squared = squaredDistance(features, dimension);
  const encoded = averageOverNeighbours(
    encodeRows(new ReciprocalSets(count, lists), (row, members, size, out) => {
      squared(row, members, size, out);
      for (let m = 0; m < size; m++) out[m] = out[m] / largest[row];
    }),
    k2,
    lists,
  );
  const overlaps = overlapsWithFirst(encoded);
  const plain = new Float64Array(count);
  squared(0, Int32Array.from(plain.keys()), count, plain);
  const distances = new Float32Array(count - 1);
  for (let c = 1; c < count; c++) {
    const jaccard = 1 - overlaps[c] / (2 - overlaps[c]);
    const distance = plain[c] / largest[0];
    const final = (1 - distanceShare) * jaccard + distanceShare * distance;
    // Sums of rounded parts end a hair outside.
    distances[c - 1] = Math.min(1, Math.max(0, final));
  }
  return distances;
}

/** The nearest rows of each row by falling similarity, and its largest squared distance. */
async function rankRows(
  features: Float32Array,
  dimension: number,
  width: number,
): Promise<{ neighbours: Int32Array; largest: Float64Array }> {
  const index = exactIndex(dimension);
  try {
    const count = features.length / dimension;
    const ids = Float64Array.from({ length: count }, (_, row) => row);
    await index.add(ids, features);
    const near = await index.search(features, { k: width });
    // The nearest of the opposite row is the farthest of the row.
    const opposite = features.map((value) => -value);
    const far = await index.search(opposite, { k: 1 });
    return {
      neighbours: Int32Array.from(near.ids),
      largest: Float64Array.from(far.similarities, (similarity) => {
        const most = 2 + 2 * similarity;
        // All rows equal: every distance is 0, whatever it is divided by.
        return most > 0 ? most : 1;
      }),
    };
  } finally {
    await index.close();
  }
}

/** Σmin of the first row's encoding with every row's. */
function overlapsWithFirst({
  rowStart,
  columns,
  values,
}: SparseRows): Float64Array {
  const count = rowStart.length - 1;
  const own = new Float64Array(count);
  for (let p = rowStart[0]; p < rowStart[1]; p++) own[columns[p]] = values[p];
  const overlaps = new Float64Array(count);
  for (let row = 0; row < count; row++)
    for (let p = rowStart[row]; p < rowStart[row + 1]; p++)
      overlaps[row] += Math.min(own[columns[p]], values[p]);
  return overlaps;
}
