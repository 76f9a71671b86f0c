import type { Device, Domain } from "./engine.js";

/** With a source domain, without one, or the source domain alone (the baseline). */
export type Mode = "uda" | "usl" | "source";

/** What of a data set's layout is understood. */
export type DataFormat = "market1501";

/** `paper`: spcl-spec 1 to 9 and nothing else; `auto`: with the four steps of section 11. */
export type PresetName = "auto" | "paper";

/** Which reliability criteria decide whether a crop stays in its cluster (spcl-spec 5, ablations of 9). */
export type ReliabilityCriterion =
  "all" | "none" | "independence" | "compactness";

/** How the learning rate moves over the run. */
export type LearningRateSchedule =
  "constant" | "step" | "cosine" | "late-cosine";

/**
 * Before each clustering the target rows are left to their momentum (`off`), replaced by features of the present
 * encoder in evaluation mode (`on`), averaged with them (`average`), or replaced at first and left alone in the
 * end (`fade`).
 */
export type MemoryRefresh = "off" | "on" | "average" | "fade";

/** The switches of spcl-spec 9 and 11: what a preset sets and a flag overrides. */
export interface Switches {
  /** Source rows: one momentum step by the batch's mean of each class, or each feature in turn. */
  readonly sourceUpdate: "batch-mean" | "sequential";
  /** Clusters by DBSCAN, or every instance a class of its own. */
  readonly cluster: "dbscan" | "none";
  /** Whether un-clustered instances are sampled and stand in the loss's denominator. */
  readonly outliers: "keep" | "drop";
  /** Source crops in every batch, or only before the target's training. */
  readonly sourceUse: "joint" | "pretrain";
  readonly reliability: ReliabilityCriterion;
  readonly domainSpecificBatchNorm: boolean;
  /** Removes each camera's mean from the clustering's input. */
  readonly clusterCentre: "camera" | "none";
  /** How much of the present encoder's features the target rows take up before each clustering. */
  readonly refreshMemory: MemoryRefresh;
  readonly featureBias: "trained" | "frozen";
  readonly learningRateSchedule: LearningRateSchedule;
  /** Choose k1 and eps by consensus (spcl-spec 11, 3). */
  readonly chooseClustering: boolean;
}

/** Settings of the k-reciprocal distance and DBSCAN. */
export interface ClusteringSettings {
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
  /** epsTight = eps − epsGap, epsLoose = eps + epsGap. */
  readonly epsGap: number;
  /** Counting the point itself. */
  readonly minSamples: number;
}

/**
 * What the user says of a run. Everything left out has a default, by preset, encoder and data
 * (`settingsFromOptions`); what was chosen is written to the run's `settings.json`.
 */
export interface TrainOptions {
  readonly mode?: Mode;
  readonly preset?: PresetName;
  /** Labelled data set; needed by `uda` and `source`. */
  readonly source?: string;
  /** Unlabelled data set; needed by `uda` and `usl`. In `source`, its batch-norm statistics are taken too. */
  readonly target?: string;
  /** Labelled data set whose query and gallery give the mAP of every epoch. */
  readonly validation?: string;
  readonly format?: DataFormat;
  /** Leave out files that do not fit the layout or cannot be decoded, instead of stopping. */
  readonly skipBad?: boolean;
  /** A name from the encoder table, an ONNX file, a bundle's or run's folder, or MODELS/NAME. */
  readonly encoder?: string;
  /** ONNX file with initial weights. */
  readonly weights?: string;
  /** Output dimensions of the linear layer behind the pooling; 0: none. */
  readonly features?: number;
  /** The value of the ONNX file that is the feature, where it is not the output. */
  readonly featureNode?: string;
  /** The run's folder. */
  readonly out: string;
  readonly resume?: boolean;
  readonly seed?: number;
  readonly epochs?: number;
  readonly warmupEpochs?: number;
  /** Iterations an epoch. */
  readonly iterations?: number;
  /** Crops of each domain in a batch. */
  readonly batchSize?: number;
  readonly heightPx?: number;
  readonly widthPx?: number;
  /** Zeros on each side before the random window. */
  readonly padPx?: number;
  readonly learningRate?: number;
  readonly learningRateSchedule?: LearningRateSchedule;
  readonly weightDecay?: number;
  readonly temperature?: number;
  /** Share of the old memory row that stays. */
  readonly memoryMomentum?: number;
  readonly sourceUpdate?: Switches["sourceUpdate"];
  readonly cluster?: Switches["cluster"];
  readonly outliers?: Switches["outliers"];
  readonly sourceUse?: Switches["sourceUse"];
  readonly reliability?: ReliabilityCriterion;
  readonly dsbn?: "on" | "off";
  readonly clusterCentre?: Switches["clusterCentre"];
  readonly refreshMemory?: MemoryRefresh | "auto";
  readonly featureBias?: Switches["featureBias"];
  /** Any of these given switches the choice by consensus off. */
  readonly k1?: number;
  readonly k2?: number;
  readonly eps?: number;
  readonly epsGap?: number;
  readonly minSamples?: number;
  /** Which epoch's encoder is exported; `best` needs `validation`. */
  readonly select?: "last" | "best";
  readonly exportDomain?: Domain;
  readonly device?: Device;
  /** Threads of the engine; 0: as many as there are cores. */
  readonly threads?: number;
  /** Threads that decode and augment crops. */
  readonly workers?: number;
  /** Most bytes of resized crops kept in memory. */
  readonly cropCacheBytes?: number;
  /** Models folder to publish the bundle to, under `name`. */
  readonly publish?: string;
  readonly name?: string;
}

/** Everything that decides a run's numbers, nothing left open; part of checkpoint and manifest. */
export interface TrainSettings extends Switches {
  readonly mode: Mode;
  readonly preset: PresetName;
  readonly encoder: string;
  /** Whether training starts from weights somebody trained before. */
  readonly pretrained: boolean;
  readonly seed: number;
  readonly epochs: number;
  readonly warmupEpochs: number;
  readonly iterations: number;
  readonly batchSize: number;
  readonly heightPx: number;
  readonly widthPx: number;
  readonly padPx: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly temperature: number;
  readonly memoryMomentum: number;
  /** Where the choice by consensus is on, the settings before the first choice. */
  readonly clustering: ClusteringSettings;
  readonly select: "last" | "best";
  readonly exportDomain: Domain;
}

/** What of data and encoder the defaults depend on. */
export interface RunFacts {
  /** Name of the encoder, the ONNX file's name without its folder, or a bundle's NAME/VERSION. */
  readonly encoder: string;
  readonly pretrained: boolean;
  /** The encoder's own input size. */
  readonly heightPx: number;
  readonly widthPx: number;
  /** Number of training crops of each domain; 0 where there is none. */
  readonly sourceCrops: number;
  readonly targetCrops: number;
}
