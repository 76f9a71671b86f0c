import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomically } from "#core/files";
import {
  expectSameSettings,
  loadCheckpoint,
  type BestEpoch,
} from "./checkpoint.js";
import { CropLoader } from "./crops.js";
import { dataFormats } from "./data-sets.js";
import type { CropRef, SkippedFile } from "./data/data-set.js";
import { openDomain, type DomainCrops } from "./domain-crops.js";
import { RunExistsError } from "./errors.js";
import { MetricsLog } from "./metrics-log.js";
import { CHECKPOINTS, restoreRun } from "./run-checkpoint.js";
import { Run, type TrainContext } from "./run.js";
import { settingsFromOptions } from "./settings-from-options.js";
import type { TrainOptions, TrainSettings } from "./settings.js";
import { openStartEncoder } from "./start-encoder.js";
import { TargetClustering } from "./target-clustering.js";

/** Adam's constants: Kingma and Ba 2015, arXiv:1412.6980, as in yxgeee/SpCL. */
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

/** Bytes of resized crops kept by default: all of Market-1501's at 256 × 128. */
const CROP_CACHE_BYTES = 2 * 1024 ** 3;

/** A run that is ready for its next epoch. */
export interface OpenedRun {
  readonly run: Run;
  readonly epochsDone: number;
  readonly best: BestEpoch | undefined;
  /** Files left out of the data, with `skipBad`. */
  readonly skipped: readonly SkippedFile[];
}

/** What the user said of a run, as its folder keeps it. */
interface RunFile {
  readonly options: TrainOptions;
  readonly settings: TrainSettings;
}

/**
 * The options of a run: those given, and with `resume` those the run was started with beneath them.
 */
export async function optionsOfRun(
  options: TrainOptions,
): Promise<TrainOptions> {
  if (options.resume !== true) return options;
  const saved = await readRunFile(options.out);
  return saved === undefined ? options : { ...saved.options, ...options };
}

/**
 * Reads data and encoder, fills in the settings, and brings the engine to where the run stands.
 *
 * @throws {RunExistsError}          the folder holds a run and `resume` was not asked for
 * @throws {DataSetLayoutError}      the data does not fit its format
 * @throws {ConfigError}             a setting is out of range, or two do not go together
 * @throws {CheckpointMismatchError} the checkpoint was made with other settings
 */
export async function openRun(
  options: TrainOptions,
  context: TrainContext,
): Promise<OpenedRun> {
  if (options.resume !== true && (await holdsRun(options.out)))
    throw new RunExistsError(options.out);
  const found: SkippedFile[] = [];
  const source = await cropsIn(options.source, options, found);
  const target = await cropsIn(options.target, options, found);
  const start = await openStartEncoder(options);
  for (const line of start.messages) context.onMessage?.(line);
  const settings = settingsFromOptions(options, {
    encoder: start.name,
    pretrained: start.pretrained,
    heightPx: start.heightPx,
    widthPx: start.widthPx,
    sourceCrops: source.length,
    targetCrops: target.length,
  });
  const checkpoint =
    options.resume === true
      ? await loadCheckpoint(join(options.out, CHECKPOINTS))
      : undefined;
  if (checkpoint !== undefined)
    expectSameSettings(settings, checkpoint.checkpoint.settings);
  const loader = new CropLoader({
    heightPx: settings.heightPx,
    widthPx: settings.widthPx,
    workers: options.workers ?? 2,
    cacheBytes: options.cropCacheBytes ?? CROP_CACHE_BYTES,
  });
  try {
    const skipped = options.skipBad === true ? found : undefined;
    const domains = {
      source: await openIfAny(loader, source, skipped),
      target: await openIfAny(loader, target, skipped),
    };
    await keepRunFile(options, settings);
    const epochsDone = checkpoint?.checkpoint.epochsDone ?? 0;
    const session = await context.engine.open({
      encoder: start.encoder,
      heightPx: settings.heightPx,
      widthPx: settings.widthPx,
      domainSpecificBatchNorm: settings.domainSpecificBatchNorm,
      featureBias: settings.featureBias,
      temperature: settings.temperature,
      weightDecay: settings.weightDecay,
      adam: ADAM,
      device: options.device ?? "auto",
      threads: options.threads ?? 0,
    });
    context.onMessage?.(
      `${session.parameterCount} numbers are trained; the engine copies ${(session.copiedBytes / 1e6).toFixed(1)} MB of state an iteration unasked`,
    );
    const run = new Run({
      settings,
      context,
      session,
      loader,
      ...domains,
      clustering: clusteringOf(
        settings,
        context,
        domains.target,
        session.dimension,
      ),
      log: await MetricsLog.open(options.out, epochsDone),
    });
    if (checkpoint !== undefined)
      restoreRun(run, checkpoint.path, checkpoint.checkpoint);
    return {
      run,
      epochsDone,
      best: checkpoint?.checkpoint.best,
      skipped: found,
    };
  } catch (error) {
    await loader.close();
    throw error;
  }
}

/** Ends workers and engine of a run. */
export async function closeRun(run: Run): Promise<void> {
  await run.loader.close();
  await run.clustering?.close();
  await run.session.close();
}

async function holdsRun(folder: string): Promise<boolean> {
  return access(join(folder, "settings.json")).then(
    () => true,
    () => false,
  );
}

async function readRunFile(folder: string): Promise<RunFile | undefined> {
  if (!(await holdsRun(folder))) return undefined;
  const text = await readFile(join(folder, "settings.json"), "utf8");
  return JSON.parse(text) as RunFile;
}

async function keepRunFile(
  options: TrainOptions,
  settings: TrainSettings,
): Promise<void> {
  const { resume: _, ...kept } = options;
  const file: RunFile = { options: kept, settings };
  await writeAtomically(
    join(options.out, "settings.json"),
    `${JSON.stringify(file, null, 2)}\n`,
  );
}

async function cropsIn(
  folder: string | undefined,
  options: TrainOptions,
  skipped: SkippedFile[],
): Promise<readonly CropRef[]> {
  if (folder === undefined) return [];
  const data = await dataFormats[options.format ?? "market1501"](folder, {
    skipBad: options.skipBad ?? false,
    splits: ["train"],
  });
  skipped.push(...data.skipped);
  return data.train;
}

async function openIfAny(
  loader: CropLoader,
  crops: readonly CropRef[],
  skipped: SkippedFile[] | undefined,
): Promise<DomainCrops | undefined> {
  return crops.length === 0 ? undefined : openDomain(loader, crops, skipped);
}

function clusteringOf(
  settings: TrainSettings,
  context: TrainContext,
  target: DomainCrops | undefined,
  dimension: number,
): TargetClustering | undefined {
  if (target === undefined || settings.mode === "source") return undefined;
  return new TargetClustering({
    engine: context.engine,
    settings,
    dimension,
    cameras: target.cameras,
    identities: target.classCount > 1 ? target.classes : undefined,
    onMessage: (line) => context.onMessage?.(line),
    signal: context.signal,
  });
}
