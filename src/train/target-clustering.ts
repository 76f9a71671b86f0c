import { partitionAgreement } from "#memory/agreement";
import { ClusteringWorker } from "#memory/clustering";
import type { Clustering } from "#memory/clustering-run";
import type { ReliabilityCriterion as MemoryCriterion } from "#memory/pseudo-labels";
import { UNLABELLED } from "#memory/hybrid-memory";
import type { TrainingEngine } from "./engine.js";
import type { ClusteringRecord } from "./metrics-log.js";
import type { ReliabilityCriterion, TrainSettings } from "./settings.js";

/** What the clustering of a run remembers from epoch to epoch. */
export interface ClusteringState {
  /** Taken in the first epoch with a cluster and kept, until k1 or eps change. */
  readonly independenceThreshold: number | null;
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
}

/** What a target's clustering works with. */
export interface TargetClusteringOptions {
  readonly engine: TrainingEngine;
  readonly settings: TrainSettings;
  /** D. */
  readonly dimension: number;
  /** int32 [N]. */
  readonly cameras: Int32Array;
  /** int32 [N], only compared with, never learned from; absent where there is no truth. */
  readonly identities: Int32Array | undefined;
  readonly onMessage: (line: string) => void;
  readonly signal: AbortSignal | undefined;
}

/** Labels of the target's instances for one epoch. */
export interface TargetLabels {
  /** int32 [N], ≥ 0, or `UNLABELLED` where un-clustered instances take no part. */
  readonly labels: Int32Array;
  readonly record: ClusteringRecord;
}

/** Largest k1 of the grid (spcl-spec 11, step 3). */
const GRID_NEIGHBOURS = 30;

/** Epochs between two looks at the grid. */
const CHOICE_EPOCHS = 5;

/** From so many instances on, the grid is walked over a sample. */
const GRID_INSTANCES = 4000;

/** Names of the criteria in `#memory/pseudo-labels`. */
const criteria: Readonly<Record<ReliabilityCriterion, MemoryCriterion>> = {
  all: "both",
  none: "none",
  independence: "independence",
  compactness: "compactness",
};

/** Clusters a target's memory rows, epoch after epoch, in a worker thread. */
export class TargetClustering {
  readonly #options: TargetClusteringOptions;
  readonly #worker = new ClusteringWorker();
  #state: ClusteringState;

  constructor(options: TargetClusteringOptions) {
    this.#options = options;
    const { k1, k2, eps } = options.settings.clustering;
    this.#state = { independenceThreshold: null, k1, k2, eps };
  }

  get state(): ClusteringState {
    return this.#state;
  }

  /** Goes on from a checkpoint. */
  restore(state: ClusteringState): void {
    this.#state = state;
  }

  /**
   * Labels for the coming epoch.
   *
   * @param rows   float32 [N, D], unit rows; only read
   * @param epoch  since the adaptation began, from 0
   */
  async cluster(rows: Float32Array, epoch: number): Promise<TargetLabels> {
    const { settings, dimension } = this.#options;
    const count = rows.length / dimension;
    if (settings.cluster === "none") return this.#instanceLabels(count);
    const features =
      settings.clusterCentre === "camera"
        ? await this.#worker.centre(rows, this.#options.cameras, dimension)
        : rows;
    const isChoosing =
      settings.chooseClustering && epoch % CHOICE_EPOCHS === 0 && count > 1;
    const width = isChoosing
      ? Math.max(GRID_NEIGHBOURS, this.#state.k1)
      : this.#state.k1;
    const neighbours = await this.#options.engine.neighbours(
      features,
      dimension,
      Math.min(width, count),
    );
    const input = { features, dimension, neighbours };
    if (isChoosing) await this.#choose(input, epoch);
    const clustering = await this.#worker.cluster(
      input,
      {
        ...settings.clustering,
        ...this.#setting(),
        criterion: criteria[settings.reliability],
      },
      this.#options.signal,
    );
    this.#state = {
      ...this.#state,
      independenceThreshold: clustering.independenceThreshold ?? null,
    };
    return this.#labelsFrom(clustering);
  }

  /** Stops the worker. */
  async close(): Promise<void> {
    await this.#worker.close();
  }

  #setting(): {
    readonly k1: number;
    readonly k2: number;
    readonly eps: number;
    readonly independenceThreshold: number | undefined;
  } {
    const { independenceThreshold, ...setting } = this.#state;
    return {
      ...setting,
      independenceThreshold: independenceThreshold ?? undefined,
    };
  }

  /** Looks at the grid; a new setting takes the independence threshold anew. */
  async #choose(
    input: Parameters<ClusteringWorker["choose"]>[0],
    epoch: number,
  ): Promise<void> {
    const { settings, onMessage } = this.#options;
    const { k1, k2, eps } = this.#state;
    const { epsGap, minSamples } = settings.clustering;
    const { chosen, changed } = await this.#worker.choose(
      input,
      {
        epsGap,
        minSamples,
        maxInstances: GRID_INSTANCES,
        seed: settings.seed,
        ...(epoch === 0 ? {} : { current: { k1, eps } }),
      },
      this.#options.signal,
    );
    if (epoch > 0 && !changed) return;
    this.#state = {
      independenceThreshold: null,
      k1: chosen.k1,
      k2: chosen.k2,
      eps: chosen.eps,
    };
    onMessage(
      `clustering with k1 ${chosen.k1}, k2 ${chosen.k2}, eps ${chosen.eps}` +
        (epoch === 0 ? "" : ` (before: ${k1}, ${k2}, ${eps})`),
    );
  }

  /** Every instance a class of its own. */
  #instanceLabels(count: number): TargetLabels {
    const labels = Int32Array.from({ length: count }, (_, i) => i);
    return { labels, record: this.#record(labels, sizesOf(labels)) };
  }

  #labelsFrom({ labels }: Clustering): TargetLabels {
    const sizes = sizesOf(labels);
    const record = this.#record(labels, sizes);
    if (this.#options.settings.outliers === "keep") return { labels, record };
    return {
      labels: labels.map((label) => (sizes[label] > 1 ? label : UNLABELLED)),
      record,
    };
  }

  #record(labels: Int32Array, sizes: Int32Array): ClusteringRecord {
    const { identities } = this.#options;
    const { k1, eps, independenceThreshold } = this.#state;
    const truth =
      identities === undefined ? {} : partitionAgreement(labels, identities);
    return {
      k1,
      eps,
      clusters: sizes.filter((size) => size > 1).length,
      outliers: sizes.filter((size) => size === 1).length,
      independenceThreshold,
      largestCluster: sizes.reduce((most, size) => Math.max(most, size), 0),
      ...truth,
    };
  }
}

/** int32 [largest label + 1]: instances of each label. */
function sizesOf(labels: Int32Array): Int32Array {
  const sizes = new Int32Array(
    labels.reduce((most, it) => Math.max(most, it), -1) + 1,
  );
  for (const label of labels) sizes[label]++;
  return sizes;
}
