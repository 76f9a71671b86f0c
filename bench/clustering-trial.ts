import { systemClock } from "#core/clock";
import { partitionAgreement } from "#memory/agreement";
import { ClusteringWorker } from "#memory/clustering";
import { PAPER_CLUSTERING } from "#memory/clustering-run";
import { createOnnxruntimeEngine } from "#train/engines/onnxruntime";

import {
  gaussianIdentities,
  type GaussianOptions,
} from "./gaussian-identities.js";
import { trialInput, trialResult } from "./trial.js";

/** One timed clustering, and the choice of its setting beside it. */
export interface ClusteringTrial {
  readonly neighboursS: number;
  /** Jaccard, three DBSCAN, reliability, pseudo labels, in the worker thread, buffers handed over. */
  readonly clusteringS: number;
  /** Whole grid of the consensus, neighbours not counted again. */
  readonly choiceS: number;
  /** Clustering at the chosen setting, neighbours not counted again. */
  readonly chosenClusteringS: number;
  /** Largest resident size of the process less the features, taken before the consensus. */
  readonly residentAboveFeaturesBytes: number;
  readonly clusterCount: number;
  readonly ari: number;
  readonly chosen: string;
  readonly chosenAri: number;
}

const options = trialInput<
  GaussianOptions & {
    readonly maxInstances: number;
    readonly isChoosing: boolean;
  }
>();
const { features, identities } = gaussianIdentities(options);
const { dimension, seed, maxInstances, isChoosing } = options;
const engine = createOnnxruntimeEngine();
const worker = new ClusteringWorker();
const time = systemClock.monotonic;

const start = time();
const neighbours = await engine.neighbours(features, dimension, 30);
const found = time();
const input = { features, dimension, neighbours };
const clustering = await worker.cluster(input, PAPER_CLUSTERING);
const clustered = time();
const residentBytes = process.resourceUsage().maxRSS * 1024;

const result = {
  neighboursS: (found - start) / 1000,
  clusteringS: (clustered - found) / 1000,
  residentAboveFeaturesBytes: residentBytes - features.byteLength,
  clusterCount: clustering.clusterCount,
  ari: partitionAgreement(clustering.labels, identities).ari,
};
if (isChoosing) {
  const before = time();
  const { chosen } = await worker.choose(input, {
    epsGap: PAPER_CLUSTERING.epsGap,
    minSamples: PAPER_CLUSTERING.minSamples,
    seed,
    maxInstances,
  });
  const chose = time();
  const { k1, k2, eps } = chosen;
  const setting = { ...PAPER_CLUSTERING, k1, k2, eps };
  const { labels } = await worker.cluster(input, setting);
  trialResult({
    ...result,
    choiceS: (chose - before) / 1000,
    chosenClusteringS: (time() - chose) / 1000,
    chosen: `k1 ${k1}, eps ${eps}`,
    chosenAri: partitionAgreement(labels, identities).ari,
  });
} else trialResult(result);
await worker.close();
