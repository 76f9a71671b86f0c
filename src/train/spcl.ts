import type { Clock } from "#core/clock";
import type { TrainingEngine } from "./engine.js";
import type { EpochRecord, TrainProgress } from "./metrics-log.js";
import type { TrainOptions, TrainSettings } from "./settings.js";

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

/** What a run leaves behind. */
export interface TrainResult {
  /** The run's folder: bundle/, metrics.jsonl, settings.json, report.html, checkpoints/. */
  readonly folder: string;
  /** The bundle's folder. */
  readonly bundle: string;
  /** Mode `source` with a target: the same encoder with the target's own batch-norm statistics. */
  readonly targetStatisticsBundle?: string;
  readonly settings: TrainSettings;
  readonly epochs: readonly EpochRecord[];
  /** Largest difference between the training graph and the bundle over up to 64 crops. */
  readonly verificationError: number;
  readonly published?: { readonly name: string; readonly version: number };
}

/** Trains or adapts an encoder as the options say and leaves the run's folder behind. */
export type Train = (
  options: TrainOptions,
  context: TrainContext,
) => Promise<TrainResult>;
