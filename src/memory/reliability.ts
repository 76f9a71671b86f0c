import { OUTLIER } from "./dbscan.js";

/** How far each instance's class changes when eps does; 0 is best. */
export interface Reliability {
  /** float32 [N]: 1 − IoU of the instance's classes under base and tight eps. */
  readonly rComp: Float32Array;
  /** float32 [N]: 1 − IoU of the instance's classes under base and loose eps. */
  readonly rIndep: Float32Array;
}

/** Cluster ids of the same instances at three radii, `OUTLIER` where none. */
export interface ClusteringTriple {
  /** int32 [N], at eps. */
  readonly base: Int32Array;
  /** int32 [N], at eps − gap. */
  readonly tight: Int32Array;
  /** int32 [N], at eps + gap. */
  readonly loose: Int32Array;
}

/**
 * Compactness and independence of every instance's class, in O(N) by counting label pairs.
 *
 *     rComp(i)  = 1 − |I(i) ∩ I_tight(i)| / |I(i) ∪ I_tight(i)|
 *     rIndep(i) = 1 − |I(i) ∩ I_loose(i)| / |I(i) ∪ I_loose(i)|
 *
 * An outlier is a class of one. Both in the reference's orientation: the paper's R is 1 − this.
 *
 * Source: Ge et al. 2020, arXiv:2006.02713 (reliability criterion); yxgeee/SpCL
 * examples/spcl_train_usl.py.
 */
export function reliability({
  base,
  tight,
  loose,
}: ClusteringTriple): Reliability {
  return {
    rComp: oneMinusOverlap(base, tight),
    rIndep: oneMinusOverlap(base, loose),
  };
}

/** 1 − intersection over union of each instance's class in `a` and in `b`. */
function oneMinusOverlap(a: Int32Array, b: Int32Array): Float32Array {
  const count = a.length;
  const { sizes: sizesA, members } = group(a);
  const { sizes: sizesB } = group(b);
  const shared = new Int32Array(sizesB.length);
  const result = new Float32Array(count);
  for (let k = 0, start = 0; k < sizesA.length; start += sizesA[k++]) {
    const end = start + sizesA[k];
    for (let m = start; m < end; m++)
      if (b[members[m]] !== OUTLIER) shared[b[members[m]]]++;
    for (let m = start; m < end; m++) {
      const id = b[members[m]];
      const both = id === OUTLIER ? 1 : shared[id];
      const either = sizesA[k] + (id === OUTLIER ? 1 : sizesB[id]) - both;
      result[members[m]] = distanceOf(both, either);
    }
    for (let m = start; m < end; m++)
      if (b[members[m]] !== OUTLIER) shared[b[members[m]]] = 0;
  }
  for (let i = 0; i < count; i++)
    if (a[i] === OUTLIER)
      result[i] = distanceOf(1, b[i] === OUTLIER ? 1 : sizesB[b[i]]);
  return result;
}

/** In float32 twice, as the reference divides and subtracts: classes are compared for equality later. */
function distanceOf(both: number, either: number): number {
  return 1 - Math.fround(both / either);
}

/** Cluster sizes, and the clustered instances ordered by cluster. */
function group(ids: Int32Array): { sizes: Int32Array; members: Int32Array } {
  let clusters = 0;
  let clustered = 0;
  for (const id of ids) {
    if (id >= clusters) clusters = id + 1;
    if (id !== OUTLIER) clustered++;
  }
  const sizes = new Int32Array(clusters);
  for (const id of ids) if (id !== OUTLIER) sizes[id]++;
  const next = new Int32Array(clusters);
  for (let k = 1; k < clusters; k++) next[k] = next[k - 1] + sizes[k - 1];
  const members = new Int32Array(clustered);
  for (let i = 0; i < ids.length; i++)
    if (ids[i] !== OUTLIER) members[next[ids[i]]++] = i;
  return { sizes, members };
}
