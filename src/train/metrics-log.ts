import { appendFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomically, writeFailure } from "#core/files";

/** What clustering found in an epoch, and how it compares with the truth where there is one. */
export interface ClusteringRecord {
  readonly k1: number;
  readonly eps: number;
  /** Labels with more than one instance. */
  readonly clusters: number;
  readonly outliers: number;
  /** Of rIndep; null until the first epoch with a cluster. */
  readonly independenceThreshold: number | null;
  readonly largestCluster: number;
  /** Against the data set's identities; absent where there are none. */
  readonly pairPrecision?: number;
  readonly pairRecall?: number;
  readonly nmi?: number;
  readonly ari?: number;
}

/** One line of metrics.jsonl: an optimizer update. */
export interface IterationRecord {
  readonly kind: "iteration";
  readonly epoch: number;
  readonly iteration: number;
  readonly loss: number;
  readonly sourceLoss?: number;
  readonly targetLoss?: number;
  readonly learningRate: number;
}

/** One line of metrics.jsonl: a clustering and its iterations. */
export interface EpochRecord {
  readonly kind: "epoch";
  /** From 1. */
  readonly epoch: number;
  readonly phase: "warmup" | "adaptation";
  readonly iterations: number;
  /** Mean over the epoch's iterations; null where none could be made. */
  readonly meanLoss: number | null;
  readonly clustering?: ClusteringRecord;
  /** On the validation set. */
  readonly mAP?: number;
  readonly rank1?: number;
  readonly seconds: number;
}

/** Where a run is. */
export interface TrainProgress {
  readonly stage:
    | "reading"
    | "memory"
    | "clustering"
    | "training"
    | "evaluating"
    | "exporting";
  /** From 1; 0 before the first. */
  readonly epoch: number;
  readonly epochs: number;
  readonly iteration: number;
  readonly iterations: number;
  readonly loss?: number;
  readonly imagesPerSecond?: number;
  readonly secondsLeft?: number;
  readonly clusters?: number;
  readonly outliers?: number;
}

/** A line of metrics.jsonl. */
export type MetricsRecord = IterationRecord | EpochRecord;

/** A run's metrics.jsonl: one JSON object a line, an epoch's lines written together at its end. */
export class MetricsLog {
  readonly #path: string;
  readonly #epochs: EpochRecord[] = [];
  #pending = "";

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Opens a run's log and drops the lines of epochs that are about to be repeated.
   *
   * @param folder      the run's
   * @param epochsDone  epochs whose lines stay; 0: the log starts anew
   */
  static async open(folder: string, epochsDone: number): Promise<MetricsLog> {
    const log = new MetricsLog(join(folder, "metrics.jsonl"));
    const kept =
      epochsDone === 0 ? [] : await recordsUpTo(log.#path, epochsDone);
    for (const record of kept)
      if (record.kind === "epoch") log.#epochs.push(record);
    await writeAtomically(
      log.#path,
      kept.map((record) => `${JSON.stringify(record)}\n`).join(""),
    );
    return log;
  }

  /** Every epoch logged so far, in order. */
  get epochs(): readonly EpochRecord[] {
    return this.#epochs;
  }

  /** Adds a line; it reaches the disk with its epoch's. */
  iteration(record: IterationRecord): void {
    this.#pending += `${JSON.stringify(record)}\n`;
  }

  /**
   * Adds an epoch's line and writes all that wait.
   *
   * @throws {DiskFullError} there is no room for them
   */
  async epoch(record: EpochRecord): Promise<void> {
    this.#epochs.push(record);
    const lines = `${this.#pending}${JSON.stringify(record)}\n`;
    this.#pending = "";
    try {
      await appendFile(this.#path, lines);
    } catch (error) {
      throw writeFailure(error, this.#path);
    }
  }
}

/**
 * The records of a run's metrics.jsonl, in order; a last line that was cut short is left out.
 *
 * @param folder  the run's
 */
export async function readMetrics(
  folder: string,
): Promise<readonly MetricsRecord[]> {
  return recordsUpTo(join(folder, "metrics.jsonl"), Infinity);
}

async function recordsUpTo(
  path: string,
  epochsDone: number,
): Promise<readonly MetricsRecord[]> {
  const text = await readFile(path, "utf8");
  // What follows the last line break was being written when the run was cut off.
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as MetricsRecord)
    .filter(({ epoch }) => epoch <= epochsDone);
}
