import { squaredDistance } from "#memory/jaccard";
import {
  averageOverNeighbours,
  encodeRows,
  ReciprocalSets,
  transpose,
  type SparseRows,
} from "#memory/reciprocal";

import {
  squaredDistanceBlocks,
  type DistanceBlock,
  type Similarities,
} from "./similarity-blocks.js";

/** What fixes re-ranking. */
export interface RerankOptions {
  /** Neighbours that make a reciprocal set, the row itself not counted; 20 in the reference. */
  readonly k1: number;
  /** Rows averaged in local query expansion, itself counted; 6 in the reference. */
  readonly k2: number;
  /** λ: share of the original distance; 0.3 in the reference. */
  readonly lambda: number;
}

/** The reference's settings: yxgeee/SpCL spcl/utils/rerank.py, re_ranking. */
export const RERANK_DEFAULTS: RerankOptions = { k1: 20, k2: 6, lambda: 0.3 };

/** Features of queries and gallery. */
export interface RerankInput {
  /** float32 [Q, D], unit rows; only read. */
  readonly queries: Float32Array;
  /** float32 [G, D], unit rows; only read. */
  readonly gallery: Float32Array;
  /** D. */
  readonly dimension: number;
  /** Inner products; plain loops where absent. */
  readonly similarities?: Similarities | undefined;
}

/**
 * Re-ranked distances of every query to the gallery, a block of queries at a time.
 *
 *     d(i, j) = ‖f_i − f_j‖⁴ / max_j ‖f_i − f_j‖⁴ over query ∪ gallery
 *     final   = (1 − λ) J + λ d
 *
 * The reference squares the squared distance once more. J is the k-reciprocal Jaccard distance with
 * V_i ∝ exp(−d) over neighbours by d. Memory is Q + G rows of a few hundred numbers, never a square
 * of it; time is one pass of all inner products over the union and one of queries × gallery.
 *
 * Source: Zhong et al., CVPR 2017; yxgeee/SpCL spcl/utils/rerank.py, re_ranking.
 */
export async function* rerankedDistanceBlocks(
  input: RerankInput,
  { k1, k2, lambda }: RerankOptions = RERANK_DEFAULTS,
): AsyncGenerator<DistanceBlock> {
  const { queries, gallery, dimension, similarities } = input;
  const union = new Float32Array(queries.length + gallery.length);
  union.set(queries);
  union.set(gallery, queries.length);
  const count = union.length / dimension;
  const width = Math.min(k1 + 1, count);
  const { neighbours, largest } = await rankUnion(
    squaredDistanceBlocks(union, union, dimension, similarities),
    count,
    width,
  );
  const lists = { neighbours, width, reach: width, k1 };
  const squared = squaredDistance(union, dimension);
  const encoded = averageOverNeighbours(
    encodeRows(new ReciprocalSets(count, lists), (row, members, size, out) => {
      squared(row, members, size, out);
      for (let m = 0; m < size; m++) out[m] = out[m] ** 2 / largest[row];
    }),
    k2,
    lists,
  );
  const overlaps = new GalleryOverlaps(encoded, queries.length / dimension);
  const blocks = squaredDistanceBlocks(
    queries,
    gallery,
    dimension,
    similarities,
  );
  for await (const block of blocks) {
    const { first, count: rows, distances } = block;
    const columns = distances.length / rows;
    for (let r = 0; r < rows; r++) {
      const overlap = overlaps.of(first + r);
      for (let g = 0; g < columns; g++) {
        const n = r * columns + g;
        const jaccard = 1 - overlap[g] / (2 - overlap[g]);
        const original = distances[n] ** 2 / largest[first + r];
        distances[n] = (1 - lambda) * jaccard + lambda * original;
      }
    }
    yield block;
  }
}

/** Neighbours by rising distance, ties by index, and the largest squared distance of each row. */
async function rankUnion(
  blocks: AsyncIterable<DistanceBlock>,
  count: number,
  width: number,
): Promise<{ neighbours: Int32Array; largest: Float64Array }> {
  const neighbours = new Int32Array(count * width);
  const largest = new Float64Array(count);
  for await (const { first, count: rows, distances } of blocks)
    for (let r = 0; r < rows; r++) {
      const row = distances.subarray(r * count, (r + 1) * count);
      const start = (first + r) * width;
      takeNearest(row, neighbours.subarray(start, start + width));
      let most = 0;
      for (let j = 0; j < count; j++) if (row[j] > most) most = row[j];
      // All rows equal: every distance is 0, whatever it is divided by.
      largest[first + r] = most > 0 ? most ** 2 : 1;
    }
  return { neighbours, largest };
}

/** Insertion into a short sorted list: most candidates fail its last entry at once. */
function takeNearest(distances: Float32Array, out: Int32Array): void {
  let size = 0;
  for (let j = 0; j < distances.length; j++) {
    const d = distances[j];
    if (size === out.length && d >= distances[out[size - 1]]) continue;
    let place = size < out.length ? size++ : size - 1;
    while (place > 0 && distances[out[place - 1]] > d) {
      out[place] = out[place - 1];
      place--;
    }
    out[place] = j;
  }
}

/** Σmin of one query's encoding with every gallery row's. */
class GalleryOverlaps {
  readonly #encoded: SparseRows;
  readonly #lists: SparseRows;
  readonly #queryCount: number;
  readonly #overlap: Float64Array;

  constructor(encoded: SparseRows, queryCount: number) {
    this.#encoded = encoded;
    this.#lists = transpose(encoded);
    this.#queryCount = queryCount;
    this.#overlap = new Float64Array(encoded.rowStart.length - 1 - queryCount);
  }

  /** @returns [G], valid until the next call */
  of(query: number): Float64Array {
    const overlap = this.#overlap.fill(0);
    const { rowStart, columns, values } = this.#encoded;
    for (let p = rowStart[query]; p < rowStart[query + 1]; p++) {
      const own = values[p];
      const end = this.#lists.rowStart[columns[p] + 1];
      for (let q = this.#lists.rowStart[columns[p]]; q < end; q++) {
        const g = this.#lists.columns[q] - this.#queryCount;
        if (g >= 0) overlap[g] += Math.min(own, this.#lists.values[q]);
      }
    }
    return overlap;
  }
}
