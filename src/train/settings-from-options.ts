import { ConfigError } from "#core/errors";
import { presets } from "./presets.js";
import type {
  ClusteringSettings,
  MemoryRefresh,
  Mode,
  RunFacts,
  Switches,
  TrainOptions,
  TrainSettings,
} from "./settings.js";

/**
 * Fills in everything the user left open.
 *
 * @throws {ConfigError} a value is out of range, or two do not go together
 */
export function settingsFromOptions(
  options: TrainOptions,
  facts: RunFacts,
): TrainSettings {
  const mode = modeOf(options);
  const preset = options.preset ?? "auto";
  const defaults = presets[preset](mode, facts, options.batchSize);
  const epochs = options.epochs ?? defaults.epochs;
  const sourceUse = options.sourceUse ?? defaults.switches.sourceUse;
  const settings: TrainSettings = {
    mode,
    preset,
    encoder: facts.encoder,
    pretrained: facts.pretrained,
    seed: options.seed ?? 1,
    epochs,
    warmupEpochs: warmupOf(options, mode, sourceUse, {
      epochs,
      share: defaults.warmupShare,
    }),
    iterations: options.iterations ?? defaults.iterations,
    batchSize: options.batchSize ?? defaults.batchSize,
    heightPx: options.heightPx ?? facts.heightPx,
    widthPx: options.widthPx ?? facts.widthPx,
    padPx: options.padPx ?? defaults.padPx,
    learningRate: options.learningRate ?? defaults.learningRate,
    weightDecay: options.weightDecay ?? 5e-4,
    temperature: options.temperature ?? 0.05,
    memoryMomentum: options.memoryMomentum ?? 0.2,
    clustering: clusteringOf(options),
    select: options.select ?? "last",
    exportDomain:
      options.exportDomain ?? (mode === "source" ? "source" : "target"),
    sourceUpdate: options.sourceUpdate ?? defaults.switches.sourceUpdate,
    cluster: options.cluster ?? defaults.switches.cluster,
    outliers: options.outliers ?? defaults.switches.outliers,
    sourceUse,
    reliability: options.reliability ?? defaults.switches.reliability,
    domainSpecificBatchNorm: hasTwoDomains(options, mode)
      ? (options.dsbn ?? "on") === "on"
      : false,
    clusterCentre: options.clusterCentre ?? defaults.switches.clusterCentre,
    refreshMemory: refreshOf(options, defaults.switches.refreshMemory),
    featureBias: options.featureBias ?? defaults.switches.featureBias,
    learningRateSchedule:
      options.learningRateSchedule ?? defaults.switches.learningRateSchedule,
    chooseClustering:
      defaults.switches.chooseClustering && !fixesClustering(options),
  };
  checkSettings(settings, options);
  return settings;
}

/** Whether the run trains or adapts two domains and so may hold two copies of every batch norm. */
function hasTwoDomains(options: TrainOptions, mode: Mode): boolean {
  return mode === "uda" || (mode === "source" && options.target !== undefined);
}

function modeOf(options: TrainOptions): Mode {
  if (options.mode !== undefined) return options.mode;
  return options.source === undefined ? "usl" : "uda";
}

function warmupOf(
  options: TrainOptions,
  mode: Mode,
  sourceUse: Switches["sourceUse"],
  run: { readonly epochs: number; readonly share: number },
): number {
  if (mode === "usl") return 0;
  if (mode === "source") return run.epochs;
  if (options.warmupEpochs !== undefined) return options.warmupEpochs;
  const share =
    sourceUse === "pretrain" ? Math.max(run.share, 0.25) : run.share;
  return Math.round(run.epochs * share);
}

function refreshOf(
  { refreshMemory: asked = "auto" }: TrainOptions,
  byPreset: MemoryRefresh,
): MemoryRefresh {
  return asked === "auto" ? byPreset : asked;
}

function fixesClustering(options: TrainOptions): boolean {
  const { k1, k2, eps, epsGap, minSamples } = options;
  return [k1, k2, eps, epsGap, minSamples].some((it) => it !== undefined);
}

function clusteringOf(options: TrainOptions): ClusteringSettings {
  const k1 = options.k1 ?? 30;
  return {
    k1,
    k2: options.k2 ?? (k1 === 30 ? 6 : Math.max(2, Math.round(k1 / 4))),
    eps: options.eps ?? 0.6,
    epsGap: options.epsGap ?? 0.02,
    minSamples: options.minSamples ?? 4,
  };
}

/** Range of each number a user may set: [least, most, whole]. */
const ranges = {
  seed: [0, 2 ** 32 - 1, true],
  epochs: [1, 10_000, true],
  warmupEpochs: [0, 10_000, true],
  iterations: [1, 1_000_000, true],
  batchSize: [2, 4096, true],
  heightPx: [8, 1024, true],
  widthPx: [8, 1024, true],
  padPx: [0, 256, true],
  learningRate: [0, 1, false],
  weightDecay: [0, 1, false],
  temperature: [0.001, 10, false],
  memoryMomentum: [0, 1, false],
} as const satisfies Partial<
  Record<keyof TrainSettings, readonly [number, number, boolean]>
>;

function checkSettings(settings: TrainSettings, options: TrainOptions): void {
  for (const [field, [least, most, whole]] of Object.entries(ranges))
    checkRange(field, settings[field as keyof typeof ranges], {
      least,
      most,
      whole,
    });
  const { clustering, mode } = settings;
  checkRange("k1", clustering.k1, { least: 2, most: 1000, whole: true });
  for (const field of ["k2", "minSamples"] as const)
    checkRange(field, clustering[field], { least: 1, most: 1000, whole: true });
  checkRange("eps", clustering.eps, { least: 0, most: 1, whole: false });
  checkRange("epsGap", clustering.epsGap, { least: 0, most: 1, whole: false });
  if (mode !== "usl" && options.source === undefined)
    throw new ConfigError(
      "source",
      "missing",
      `a folder: mode ${mode} needs one`,
    );
  if (mode !== "source" && options.target === undefined)
    throw new ConfigError(
      "target",
      "missing",
      `a folder: mode ${mode} needs one`,
    );
  if (mode === "uda" && settings.warmupEpochs >= settings.epochs)
    throw new ConfigError(
      "warmupEpochs",
      String(settings.warmupEpochs),
      `less than the ${settings.epochs} epochs of the run`,
    );
  if (
    mode === "uda" &&
    settings.sourceUse === "pretrain" &&
    settings.warmupEpochs === 0
  )
    throw new ConfigError(
      "warmupEpochs",
      "0",
      "at least 1 with source-use pretrain",
    );
  if (settings.select === "best" && options.validation === undefined)
    throw new ConfigError(
      "select",
      "best",
      "last, or a labelled data set given as validation",
    );
  if (options.publish !== undefined && options.name === undefined)
    throw new ConfigError("name", "missing", "a name to publish under");
}

function checkRange(
  field: string,
  value: number,
  range: {
    readonly least: number;
    readonly most: number;
    readonly whole: boolean;
  },
): void {
  const { least, most, whole } = range;
  if (value >= least && value <= most && (!whole || Number.isInteger(value)))
    return;
  throw new ConfigError(
    field,
    String(value),
    `${whole ? "a whole number" : "a number"} from ${least} to ${most}`,
  );
}
