import type { SparseDistances } from "./jaccard.js";

/** Cluster id of an instance that no cluster reaches. */
export const OUTLIER = -1;

/** What makes a point a core point. */
export interface DbscanOptions {
  /** Radius: neighbours are pairs with distance ≤ eps, compared in float32; at most the list's maxDistance. */
  readonly eps: number;
  /** Neighbours that make a core point, itself counted. */
  readonly minSamples: number;
}

/**
 * Density clustering over a neighbour list; one list serves every eps up to its own maxDistance.
 *
 * Clusters grow in index order from the lowest unvisited core point; a border point belongs to the
 * first cluster that reaches it. O(pairs).
 *
 * Source: Ester et al. 1996 (DBSCAN); order as in scikit-learn sklearn/cluster/_dbscan_inner.pyx.
 *
 * @param distances  symmetric, each point in its own row; only read
 * @returns          int32 [N], cluster id ≥ 0 in the order of their first core point, or `OUTLIER`
 */
export function dbscan(
  distances: SparseDistances,
  { eps, minSamples }: DbscanOptions,
): Int32Array {
  const { rowStart, columns, values } = distances;
  const count = rowStart.length - 1;
  const radius = Math.fround(eps);
  const core = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let near = 0;
    for (let p = rowStart[i]; p < rowStart[i + 1]; p++)
      if (values[p] <= radius) near++;
    core[i] = near >= minSamples ? 1 : 0;
  }
  const ids = new Int32Array(count).fill(OUTLIER);
  // A point is pushed once, when it gets its id.
  const stack = new Int32Array(count);
  let cluster = 0;
  for (let seed = 0; seed < count; seed++) {
    if (core[seed] === 0 || ids[seed] !== OUTLIER) continue;
    let depth = 0;
    ids[seed] = cluster;
    stack[depth++] = seed;
    while (depth > 0) {
      const i = stack[--depth];
      if (core[i] === 0) continue;
      for (let p = rowStart[i]; p < rowStart[i + 1]; p++) {
        const j = columns[p];
        if (ids[j] !== OUTLIER || values[p] > radius) continue;
        ids[j] = cluster;
        stack[depth++] = j;
      }
    }
    cluster++;
  }
  return ids;
}
