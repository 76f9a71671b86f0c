import type { Mode, PresetName, RunFacts, Switches } from "./settings.js";

/** What a preset answers where the user says nothing. */
export interface PresetDefaults {
  readonly switches: Switches;
  readonly epochs: number;
  /** Share of the epochs that warm up on the source alone, in `uda`. */
  readonly warmupShare: number;
  readonly iterations: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly padPx: number;
}

/** Makes a preset's defaults for a mode, a run's facts and the batch size the user gave. */
export type Preset = (
  mode: Mode,
  facts: RunFacts,
  batchSize: number | undefined,
) => PresetDefaults;

/** The presets by name. */
export const presets: Readonly<Record<PresetName, Preset>> = {
  paper: paperPreset,
  auto: autoPreset,
};

/** Source: Ge et al. 2020, arXiv:2006.02713, and the flags of yxgeee/SpCL examples/spcl_train_{uda,usl}.py. */
function paperPreset(mode: Mode, facts: RunFacts): PresetDefaults {
  return {
    switches: {
      sourceUpdate: "batch-mean",
      cluster: "dbscan",
      outliers: "keep",
      sourceUse: "joint",
      reliability: "all",
      domainSpecificBatchNorm: mode === "uda",
      clusterCentre: "none",
      refreshMemory: "off",
      featureBias: mode === "uda" ? "trained" : "frozen",
      learningRateSchedule: "step",
      chooseClustering: false,
    },
    epochs: 50,
    warmupShare: 0,
    iterations: 400,
    batchSize: 64,
    learningRate: 3.5e-4,
    padPx: padFor(facts),
  };
}

/** Crops a run of the automatic preset should see each epoch, as a multiple of the training crops there are. */
const PASSES_PER_EPOCH = 2;

/** From so many target crops on, the published length of a run is kept. */
const LARGE_TARGET = 5000;

function autoPreset(
  mode: Mode,
  facts: RunFacts,
  batchSize = 64,
): PresetDefaults {
  const paper = paperPreset(mode, facts);
  const crops = mode === "source" ? facts.sourceCrops : facts.targetCrops;
  const isLarge = crops >= LARGE_TARGET;
  // Market-1501 sees 400 · 64 crops an epoch, about two passes; smaller sets keep that ratio.
  const passes = Math.ceil((PASSES_PER_EPOCH * crops) / batchSize);
  return {
    ...paper,
    switches: {
      ...paper.switches,
      clusterCentre: "camera",
      // Ahead of leaving the rows alone, by 10 points of target mAP from random weights and 4 from trained ones; from
      // trained ones replacing them is as good (docs/performance.md, make bench-presets).
      refreshMemory: "average",
      // A cosine from the start lowers the rate while most clusters are still to be found: target mAP 69 against 78
      // on the mean of three seeds.
      learningRateSchedule: "late-cosine",
      chooseClustering: true,
    },
    epochs: isLarge ? 50 : facts.pretrained ? 20 : 30,
    warmupShare: facts.pretrained ? 0 : 8 / 30,
    iterations: Math.min(400, Math.max(facts.pretrained ? 20 : 40, passes)),
    batchSize,
    // A small encoder from random weights in a short run needs the larger rate (measured on rendered domains).
    learningRate: facts.pretrained || facts.heightPx > 64 ? 3.5e-4 : 2e-3,
  };
}

/** 10 zeros each side of 128 columns; the same share of narrower crops. */
function padFor(facts: RunFacts): number {
  return facts.widthPx >= 100 ? 10 : Math.max(1, Math.round(facts.widthPx / 8));
}
