import type { Clock } from "#core/clock";
import { HybridMemory } from "#memory/hybrid-memory";
import type { Batches } from "./batch-queue.js";
import type { CropLoader } from "./crops.js";
import type { DomainCrops } from "./domain-crops.js";
import type {
  IterationOutput,
  TrainingEngine,
  TrainingSession,
} from "./engine.js";
import type { MetricsLog, TrainProgress } from "./metrics-log.js";
import type { TrainSettings } from "./settings.js";
import type { TargetClustering } from "./target-clustering.js";

/** What a run may use of the outside world. */
export interface TrainContext {
  readonly engine: TrainingEngine;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
  /** Called after every iteration and after every other slow step. */
  readonly onProgress?: (progress: TrainProgress) => void;
  /** A line for people: what was chosen, what matched, what was skipped. */
  readonly onMessage?: (line: string) => void;
}

/** What a run is opened with. */
export interface RunParts {
  readonly settings: TrainSettings;
  readonly context: TrainContext;
  readonly session: TrainingSession;
  readonly loader: CropLoader;
  readonly source: DomainCrops | undefined;
  readonly target: DomainCrops | undefined;
  readonly clustering: TargetClustering | undefined;
  readonly log: MetricsLog;
}

/** One iteration as it is logged. */
export interface IterationReport {
  /** From 0. */
  readonly epoch: number;
  readonly iteration: number;
  readonly learningRate: number;
  readonly output: IterationOutput;
  readonly batches: Batches;
}

/** A run under way: its parts, the memory of the present phase, and what it tells of itself. */
export class Run {
  readonly settings: TrainSettings;
  readonly context: TrainContext;
  readonly session: TrainingSession;
  readonly loader: CropLoader;
  readonly source: DomainCrops | undefined;
  readonly target: DomainCrops | undefined;
  readonly clustering: TargetClustering | undefined;
  readonly log: MetricsLog;
  /** Replaced where a phase begins. */
  memory: HybridMemory;
  /** Path of the newest checkpoint. */
  lastCheckpoint: string | undefined;
  #progress: TrainProgress;
  readonly #startedMs: number;
  #images = 0;
  #trainingMs = 0;
  #iterationStartedMs: number;
  #iterationsHere = 0;

  constructor(parts: RunParts) {
    this.settings = parts.settings;
    this.context = parts.context;
    this.session = parts.session;
    this.loader = parts.loader;
    this.source = parts.source;
    this.target = parts.target;
    this.clustering = parts.clustering;
    this.log = parts.log;
    this.memory = new HybridMemory({
      rows: new Float32Array(0),
      dimension: parts.session.dimension,
      sourceClasses: 0,
      memoryMomentum: parts.settings.memoryMomentum,
    });
    this.#startedMs = parts.context.clock.monotonic();
    this.#iterationStartedMs = this.#startedMs;
    this.#progress = {
      stage: "reading",
      epoch: 0,
      epochs: parts.settings.epochs,
      iteration: 0,
      iterations: parts.settings.iterations,
    };
  }

  /** Stops the run between two iterations. */
  get signal(): AbortSignal | undefined {
    return this.context.signal;
  }

  /** Tells where the run is; what is not said stays as it was. */
  report(change: Partial<TrainProgress>): void {
    this.#progress = { ...this.#progress, ...change };
    this.context.onProgress?.(this.#progress);
    this.#iterationStartedMs = this.context.clock.monotonic();
  }

  /** Logs an iteration and tells loss, speed and time left. */
  logIteration({
    epoch,
    iteration,
    learningRate,
    output,
    batches,
  }: IterationReport): void {
    const { loss, sourceLoss, targetLoss } = output;
    this.log.iteration({
      kind: "iteration",
      epoch: epoch + 1,
      iteration: iteration + 1,
      loss,
      ...(sourceLoss === undefined ? {} : { sourceLoss }),
      ...(targetLoss === undefined ? {} : { targetLoss }),
      learningRate,
    });
    const now = this.context.clock.monotonic();
    this.#trainingMs += now - this.#iterationStartedMs;
    this.#images +=
      (batches.source?.crops.length ?? 0) + (batches.target?.crops.length ?? 0);
    this.#iterationsHere++;
    const { epochs, iterations } = this.settings;
    const left = (epochs - epoch) * iterations - iteration - 1;
    this.report({
      stage: "training",
      epoch: epoch + 1,
      iteration: iteration + 1,
      loss,
      imagesPerSecond: (1000 * this.#images) / Math.max(1, this.#trainingMs),
      secondsLeft:
        (left * (now - this.#startedMs)) / this.#iterationsHere / 1000,
    });
  }
}
