import { setImmediate } from "node:timers/promises";
import type { Config } from "#core/config";
import { ClusteringWorker } from "#memory/clustering";
import type {
  ClusteringInput,
  ClusteringSettings,
} from "#memory/clustering-run";
import { OUTLIER } from "#memory/dbscan";
import {
  summarizeClustering,
  type ClusteredRows,
  type MemoryClustering,
} from "./online-clusters.js";
import type { FindNeighbours } from "./online-neighbours.js";
import type { MemoryRow } from "./online-rows.js";

/** Lists are as wide as the largest k1 that the consensus looks at. */
const CONSENSUS_WIDTH = 30;
/** The consensus is asked at the first clustering and at every fifth one after (spcl-spec 11, 3). */
const CHOOSE_EVERY = 5;
/** Most rows that the consensus walks its grid with: it must cost less than two clusterings. */
const CONSENSUS_ROWS = 4000;
/** Half the gap between the tight and the loose eps, as published. */
const EPS_GAP = 0.02;
/** Numbers copied before other work gets its turn: well under a millisecond. */
const COPIED_AT_ONCE = 262_144;

/** One clustering to make. */
export interface ClusteringTask {
  /** By number, rising. */
  readonly rows: readonly MemoryRow[];
  readonly dimension: number;
  readonly before: MemoryClustering | undefined;
  /** Instead of the chosen or configured one. */
  readonly eps: number | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly signal: AbortSignal;
}

/**
 * Clusters the online memory with the code that training uses, in a worker.
 *
 * Preset `auto`: each camera's mean removed, k1 and eps by consensus. Preset `paper`: as published. The main
 * thread only copies rows, a little at a time.
 */
export class OnlineClusterer {
  readonly #config: Config["memory"];
  readonly #neighbours: FindNeighbours;
  readonly #worker = new ClusteringWorker();

  constructor(config: Config["memory"], neighbours: FindNeighbours) {
    this.#config = config;
    this.#neighbours = neighbours;
  }

  /** @throws {ReidError} the worker or the neighbour search failed, or the signal aborted */
  async cluster(task: ClusteringTask): Promise<MemoryClustering> {
    const { rows, before } = task;
    const fallback = this.#settings(task);
    const number = (before?.number ?? 0) + 1;
    // Too few for a core point: every row is an outlier, whatever the settings.
    if (rows.length < this.#config.minSamples)
      return this.#summarize(task, fallback, allOutliers(rows));
    const input = await this.#input(task);
    const isAuto = this.#config.preset === "auto" && task.eps === undefined;
    const isDue = before === undefined || number % CHOOSE_EVERY === 1;
    const settings =
      isAuto && isDue ? await this.#choose(task, input, fallback) : fallback;
    const clustering = await this.#worker.cluster(input, settings, task.signal);
    return this.#summarize(
      task,
      { ...settings, independenceThreshold: clustering.independenceThreshold },
      { ...clustering, rows, pseudoLabels: clustering.labels },
    );
  }

  /** Waits for work under way; idempotent. */
  close(): Promise<void> {
    return this.#worker.close();
  }

  /** The settings in force: those of the clustering before, else the configured ones. */
  #settings({ before, eps }: ClusteringTask): ClusteringSettings {
    const { k1, k2, minSamples, preset } = this.#config;
    const isKept = preset === "auto" && before !== undefined;
    const {
      k1: keptK1,
      k2: keptK2,
      eps: keptEps,
    } = isKept ? before : { k1, k2, eps: this.#config.eps };
    const used = {
      k1: keptK1,
      k2: keptK2,
      eps: eps ?? keptEps,
      epsGap: EPS_GAP,
      minSamples,
      criterion: "both" as const,
    };
    return { ...used, independenceThreshold: thresholdFor(used, before) };
  }

  async #choose(
    { before, signal }: ClusteringTask,
    input: ClusteringInput,
    fallback: ClusteringSettings,
  ): Promise<ClusteringSettings> {
    const { epsGap, minSamples } = fallback;
    const { chosen } = await this.#worker.choose(
      input,
      {
        epsGap,
        minSamples,
        current: before && { k1: before.k1, eps: before.eps },
        maxInstances: CONSENSUS_ROWS,
        seed: 1,
      },
      signal,
    );
    const settings = {
      ...fallback,
      k1: chosen.k1,
      k2: chosen.k2,
      eps: chosen.eps,
    };
    return {
      ...settings,
      independenceThreshold: thresholdFor(settings, before),
    };
  }

  async #input(task: ClusteringTask): Promise<ClusteringInput> {
    const { rows, dimension } = task;
    const packed = await packRows(rows, dimension);
    const features =
      this.#config.preset === "auto"
        ? await share(
            await this.#worker.centre(packed, cameraNumbers(rows), dimension),
          )
        : packed;
    const width = Math.max(CONSENSUS_WIDTH, this.#config.k1);
    const neighbours = await this.#neighbours(features, dimension, width);
    return { features, dimension, neighbours };
  }

  #summarize(
    { before, now }: ClusteringTask,
    settings: ClusteringSettings,
    clustered: ClusteredRows,
  ): Promise<MemoryClustering> {
    const { k1, k2, eps, independenceThreshold } = settings;
    return summarizeClustering(
      clustered,
      {
        number: (before?.number ?? 0) + 1,
        clusteredAtMs: now(),
        k1,
        k2,
        eps,
        independenceThreshold,
      },
      before,
    );
  }
}

/** The threshold belongs to the settings it was found with. */
function thresholdFor(
  settings: Pick<ClusteringSettings, "k1" | "k2" | "eps">,
  before: MemoryClustering | undefined,
): number | undefined {
  const isSame =
    before?.k1 === settings.k1 &&
    before.k2 === settings.k2 &&
    before.eps === settings.eps;
  return isSame ? before.independenceThreshold : undefined;
}

function allOutliers(rows: readonly MemoryRow[]): ClusteredRows {
  return {
    rows,
    clusterIds: new Int32Array(rows.length).fill(OUTLIER),
    pseudoLabels: Int32Array.from(rows, (_, i) => i),
    rComp: new Float32Array(rows.length),
    rIndep: new Float32Array(rows.length),
  };
}

/** int32 [N]: cameras numbered in the order of their ids. */
function cameraNumbers(rows: readonly MemoryRow[]): Int32Array {
  const ids = [...new Set(rows.map((row) => row.cameraId))].sort();
  const numbers = new Map(ids.map((id, number) => [id, number]));
  return Int32Array.from(rows, (row) => numbers.get(row.cameraId) ?? 0);
}

/** float32 [N, D] on shared memory, so that the worker reads it where it is. */
async function packRows(
  rows: readonly MemoryRow[],
  dimension: number,
): Promise<Float32Array> {
  const packed = sharedFloats(rows.length * dimension);
  for (const [i, { feature }] of rows.entries()) {
    packed.set(feature, i * dimension);
    const isTurn = (i + 1) % Math.ceil(COPIED_AT_ONCE / dimension) === 0;
    if (isTurn) await setImmediate();
  }
  return packed;
}

async function share(values: Float32Array): Promise<Float32Array> {
  const shared = sharedFloats(values.length);
  for (let at = 0; at < values.length; at += COPIED_AT_ONCE) {
    shared.set(values.subarray(at, at + COPIED_AT_ONCE), at);
    await setImmediate();
  }
  return shared;
}

function sharedFloats(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(4 * length));
}
