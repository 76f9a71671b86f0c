import { dbscan } from "./dbscan.js";
import { jaccardDistance, type SparseDistances } from "./jaccard.js";
import {
  pseudoLabels,
  type PseudoLabels,
  type ReliabilityCriterion,
} from "./pseudo-labels.js";
import { reliability, type Reliability } from "./reliability.js";

/** The instances to cluster; centre them first where that is wanted (`centreByCamera`). */
export interface ClusteringInput {
  /** float32 [N, D], unit rows; only read. */
  readonly features: Float32Array;
  /** D. */
  readonly dimension: number;
  /** int32 [N, width] by falling similarity, itself first, −1 where a search came short; only read. */
  readonly neighbours: Int32Array;
}

/** What fixes one clustering. */
export interface ClusteringSettings {
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
  /** Tight and loose eps lie this far below and above. */
  readonly epsGap: number;
  readonly minSamples: number;
  readonly criterion: ReliabilityCriterion;
  /** The run's threshold; absent until a clustering has found it. */
  readonly independenceThreshold?: number | undefined;
}

/** Labels of all instances and what they were made of. */
export interface Clustering extends PseudoLabels, Reliability {
  /** int32 [N]: cluster ids at eps before reliability, `OUTLIER` where none. */
  readonly clusterIds: Int32Array;
}

/** The published settings (spcl-spec: clustering). */
export const PAPER_CLUSTERING: ClusteringSettings = {
  k1: 30,
  k2: 6,
  eps: 0.6,
  epsGap: 0.02,
  minSamples: 4,
  criterion: "both",
};

/**
 * Clusters instances and keeps what is reliable: Jaccard distance, three DBSCANs, reliability, labels.
 *
 * Synchronous, seconds for ten thousand instances: call it in a worker (`ClusteringWorker`).
 *
 * Source: Ge et al. 2020, arXiv:2006.02713; yxgeee/SpCL examples/spcl_train_usl.py.
 *
 * @returns buffers owned by the caller; no cluster at all is a valid result
 * @throws {ShapeError} the buffers do not fit each other
 */
export function clusterInstances(
  { features, dimension, neighbours }: ClusteringInput,
  settings: ClusteringSettings,
): Clustering {
  const { k1, k2, eps, epsGap } = settings;
  const maxDistance = eps + epsGap;
  const distances = jaccardDistance(features, neighbours, {
    dimension,
    k1,
    k2,
    maxDistance,
  });
  return clusteringFromDistances(distances, settings);
}

/** The part of `clusterInstances` behind the distances, which must reach to eps + gap. */
export function clusteringFromDistances(
  distances: SparseDistances,
  settings: Omit<ClusteringSettings, "k1" | "k2">,
): Clustering {
  const { eps, epsGap, minSamples } = settings;
  const base = dbscan(distances, { eps, minSamples });
  const tight = dbscan(distances, { eps: eps - epsGap, minSamples });
  const loose = dbscan(distances, { eps: eps + epsGap, minSamples });
  const reliable = reliability({ base, tight, loose });
  return {
    clusterIds: base,
    ...reliable,
    ...pseudoLabels(base, reliable, settings),
  };
}
