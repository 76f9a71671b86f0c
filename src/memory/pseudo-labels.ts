import { OUTLIER } from "./dbscan.js";
import type { Reliability } from "./reliability.js";
import { roundHalfToEven } from "./rounding.js";

/** Which tests a cluster's members must pass to stay in it; `both` is the paper's, the rest are ablations. */
export type ReliabilityCriterion =
  "none" | "independence" | "compactness" | "both";

/** What decides who stays in a cluster. */
export interface PseudoLabelOptions {
  readonly criterion: ReliabilityCriterion;
  /** The run's independence threshold; absent in the epoch that has to find it. */
  readonly independenceThreshold?: number | undefined;
}

/** The labels training uses until the next clustering. */
export interface PseudoLabels {
  /** int32 [N], ≥ 0, gaps possible; every un-clustered instance has one of its own. */
  readonly labels: Int32Array;
  /** The threshold given, or the one found here; undefined where no class has two members. */
  readonly independenceThreshold: number | undefined;
  /** Labels with more than one instance. */
  readonly clusterCount: number;
  /** Labels with exactly one instance. */
  readonly unclusteredCount: number;
  /** Instances of the largest label; 0 without instances. */
  readonly largestCluster: number;
}

/** Share of the clusters that count as independent in the epoch that sets the threshold: the reference's. */
const INDEPENDENT_SHARE = 0.9;

/**
 * Keeps the instances of independent, compact clusters and makes every other one a class of its own.
 *
 * Instance i stays if its class's rIndep ≤ threshold and rComp(i) ≤ its class's rComp, a class's value
 * being the minimum over its members. Otherwise it gets a new label behind all existing ones, in
 * index order. The threshold is found once a run: the classes' rIndep (of more than one member)
 * sorted ascending, at position min(n − 1, round-half-even(0.9 n)).
 *
 * Source: yxgeee/SpCL examples/spcl_train_usl.py.
 *
 * @param clusterIds   int32 [N], under base eps, `OUTLIER` where none; only read
 * @param reliability  of the same instances
 */
export function pseudoLabels(
  clusterIds: Int32Array,
  { rComp, rIndep }: Reliability,
  { criterion, independenceThreshold }: PseudoLabelOptions,
): PseudoLabels {
  const labels = ownLabelForOutliers(clusterIds);
  const classes = countLabels(labels);
  const classCount = classes.length;
  const classRComp = new Float32Array(classCount).fill(Infinity);
  const classRIndep = new Float32Array(classCount).fill(Infinity);
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i];
    classRComp[label] = Math.min(classRComp[label], rComp[i]);
    classRIndep[label] = Math.min(classRIndep[label], rIndep[i]);
  }
  const threshold =
    independenceThreshold ??
    findThreshold(classRIndep.filter((_, label) => classes[label] > 1));
  const testIndependence = criterion === "independence" || criterion === "both";
  const testCompactness = criterion === "compactness" || criterion === "both";
  let next = classCount;
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i];
    const independent =
      !testIndependence ||
      threshold === undefined ||
      classRIndep[label] <= threshold;
    // Against the minimum, not the mean: only the members of the best-kept core stay (spcl_train_usl.py).
    const compact = !testCompactness || rComp[i] <= classRComp[label];
    if (!independent || !compact) labels[i] = next++;
  }
  return { labels, independenceThreshold: threshold, ...summary(labels, next) };
}

function ownLabelForOutliers(clusterIds: Int32Array): Int32Array {
  let next = 0;
  for (const id of clusterIds) if (id >= next) next = id + 1;
  return clusterIds.map((id) => (id === OUTLIER ? next++ : id));
}

function countLabels(labels: Int32Array): Int32Array {
  let count = 0;
  for (const label of labels) if (label >= count) count = label + 1;
  const sizes = new Int32Array(count);
  for (const label of labels) sizes[label]++;
  return sizes;
}

function findThreshold(rIndep: Float32Array): number | undefined {
  if (rIndep.length === 0) return undefined;
  const position = roundHalfToEven(rIndep.length * INDEPENDENT_SHARE);
  return rIndep.slice().sort()[Math.min(rIndep.length - 1, position)];
}

function summary(
  labels: Int32Array,
  bound: number,
): Pick<PseudoLabels, "clusterCount" | "unclusteredCount" | "largestCluster"> {
  const sizes = new Int32Array(bound);
  for (const label of labels) sizes[label]++;
  let clusterCount = 0;
  let unclusteredCount = 0;
  let largestCluster = 0;
  for (const size of sizes) {
    if (size > 1) clusterCount++;
    if (size === 1) unclusteredCount++;
    if (size > largestCluster) largestCluster = size;
  }
  return { clusterCount, unclusteredCount, largestCluster };
}
