import type { BestEpoch } from "./checkpoint.js";
import type { SkippedFile } from "./data/data-set.js";
import type { Domain } from "./engine.js";
import { writeRunReport } from "./report.js";
import type { EpochRecord } from "./metrics-log.js";
import { keepRun, restoreBest } from "./run-checkpoint.js";
import { exportBundle } from "./run-export.js";
import { takeStatistics } from "./run-memory.js";
import { closeRun, openRun, optionsOfRun } from "./run-opening.js";
import type { Run, TrainContext } from "./run.js";
import type { Mode, TrainOptions, TrainSettings } from "./settings.js";
import { runEpoch } from "./spcl.js";
import { openValidation } from "./validation.js";

/** What a run leaves behind. */
export interface TrainResult {
  /** The run's folder: bundle/, metrics.jsonl, settings.json, report.html, checkpoints/. */
  readonly folder: string;
  /** The bundle's folder. */
  readonly bundle: string;
  /** Mode `uda` with two copies of the batch norms: the encoder with the other copy, for the source's crops. */
  readonly sourceBundle?: string;
  /** Mode `source` with a target: the same encoder with the target's own batch-norm statistics. */
  readonly targetStatisticsBundle?: string;
  readonly settings: TrainSettings;
  readonly epochs: readonly EpochRecord[];
  /** Largest difference between the training graph and the bundle over up to 64 crops. */
  readonly verificationError: number;
  readonly published?: { readonly name: string; readonly version: number };
  /** Files left out of the data, with `skipBad`. */
  readonly skipped: readonly SkippedFile[];
}

/**
 * Trains or adapts an encoder as the options say and leaves the run's folder behind: bundle/, metrics.jsonl,
 * settings.json, checkpoints/.
 *
 * With `resume` it goes on after the newest checkpoint and ends as the uninterrupted run would have, bit for bit.
 *
 * @throws {RunExistsError}     the folder holds a run and `resume` was not asked for
 * @throws {DataSetLayoutError} the data does not fit its format
 * @throws {ConfigError}        a setting is out of range, or two do not go together
 * @throws {LossNotFiniteError} the loss is NaN or infinite; the checkpoint before stays
 */
export async function train(
  options: TrainOptions,
  context: TrainContext,
): Promise<TrainResult> {
  const all = await optionsOfRun(options);
  const {
    run,
    epochsDone,
    best: bestBefore,
    skipped,
  } = await openRun(all, context);
  try {
    for (const { reason } of skipped) context.onMessage?.(`skipped: ${reason}`);
    const validation = await openValidation(run, all);
    let best = bestBefore;
    for (let epoch = epochsDone; epoch < run.settings.epochs; epoch++) {
      const record = {
        ...(await runEpoch(run, epoch)),
        ...(await validation?.evaluate()),
      };
      if (run.settings.select === "best") best = betterOf(best, record);
      await run.log.epoch(record);
      await keepRun(run, all.out, epoch + 1, best);
    }
    const result = await finish(run, all, best);
    await writeRunReport({ folder: all.out, settings: flat(run.settings) });
    return { ...result, skipped };
  } finally {
    await closeRun(run);
  }
}

/** The epoch with the larger validation mAP; the earlier one where they are equal. */
function betterOf(
  best: BestEpoch | undefined,
  { epoch, mAP = 0 }: EpochRecord,
): BestEpoch {
  return best !== undefined && best.mAP >= mAP ? best : { epoch, mAP };
}

/** Exports what the run has come to. */
async function finish(
  run: Run,
  options: TrainOptions,
  best: BestEpoch | undefined,
): Promise<Omit<TrainResult, "skipped">> {
  const { settings, target, session } = run;
  run.report({ stage: "exporting", secondsLeft: 0 });
  if (best !== undefined) await restoreBest(run, options.out);
  const { folder, ...verified } = await exportBundle(run, {
    options,
    folder: "bundle",
    domain: settings.domainSpecificBatchNorm
      ? settings.exportDomain
      : soleDomain(settings.mode),
    best,
  });
  const result = {
    folder: options.out,
    bundle: folder,
    settings,
    epochs: run.log.epochs,
    ...verified,
  };
  if (!settings.domainSpecificBatchNorm || target === undefined) return result;
  const { publish: _, ...kept } = options;
  if (settings.mode === "uda") {
    const other = await exportBundle(run, {
      options: kept,
      folder: "bundle-source",
      domain: "source",
      best,
    });
    return { ...result, sourceBundle: other.folder };
  }
  session.copySourceToTarget();
  await takeStatistics(run, target, "target");
  const shifted = await exportBundle(run, {
    options: kept,
    folder: "bundle-target-statistics",
    domain: "target",
    best,
  });
  return { ...result, targetStatisticsBundle: shifted.folder };
}

/** With one copy of the batch norms its name matters only to the engine. */
function soleDomain(mode: Mode): Domain {
  return mode === "source" ? "source" : "target";
}

/** Settings as a table of a report shows them. */
function flat({
  clustering,
  ...settings
}: TrainSettings): Readonly<Record<string, string | number | boolean>> {
  return { ...settings, ...clustering };
}
