import {
  facts,
  nested,
  openNumber,
  openText,
  openWhole,
  openWord,
} from "./config-fields.js";

/**
 * What a file may say of a training run: the flags of `reid train`, by their names.
 *
 * Everything may be left out: preset, encoder and data decide what is not said here (`docs/training.md`).
 */
export const trainSection = nested({
  mode: openWord(
    ["uda", "usl", "source"],
    "with a source domain, without one, or the source alone; unset: uda where a source is given",
  ),
  preset: openWord(
    ["auto", "paper"],
    "settings that fit the data, or those of the article; unset: auto",
  ),
  source: openText("folder of the labelled data set"),
  target: openText("folder of the unlabelled data set"),
  validation: openText(
    "folder of a labelled data set whose mAP is measured after every epoch",
  ),
  format: openWord(
    ["market1501"],
    "layout of the data sets; unset: market1501",
  ),
  encoder: openText(
    "name of an encoder, an ONNX file, or a bundle: its folder, a run's, or MODELS/NAME; unset: resnet50",
  ),
  weights: openText("ONNX file with initial weights"),
  features: openWhole(
    [0, 65_536],
    facts(
      "numbers",
      "of the linear layer behind the pooling; unset or 0: none",
    ),
  ),
  featureNode: openText(
    "value of the ONNX file that is the feature; unset: its output",
  ),
  out: openText("folder of the run"),
  seed: openWhole(
    [0, 2 ** 32 - 1],
    facts("", "of every random choice; unset: 1"),
  ),
  epochs: openWhole(
    [1, 10_000],
    facts(
      "epochs",
      "each a clustering and its iterations; unset: the preset's",
    ),
  ),
  warmupEpochs: openWhole(
    [0, 10_000],
    facts("epochs", "on the source alone; unset: the preset's, by encoder"),
  ),
  iters: openWhole(
    [1, 1_000_000],
    facts("iterations", "in one epoch; unset: the preset's"),
  ),
  batchSize: openWhole(
    [2, 4096],
    facts("crops", "of each domain in one batch; unset: 64"),
  ),
  height: openWhole(
    [8, 1024],
    facts("px", "of the encoder's input; unset: its own"),
  ),
  width: openWhole(
    [8, 1024],
    facts("px", "of the encoder's input; unset: its own"),
  ),
  pad: openWhole(
    [0, 256],
    facts(
      "px",
      "of zeros on each side before the random window; unset: the preset's",
    ),
  ),
  learningRate: openNumber(
    [0, 1],
    facts("", "of Adam at the start; unset: the preset's"),
  ),
  learningRateSchedule: openWord(
    ["constant", "step", "cosine", "late-cosine"],
    "how the learning rate falls; unset: the preset's",
  ),
  weightDecay: openNumber(
    [0, 1],
    facts("", "added to the gradient; unset: 0.0005"),
  ),
  temperature: openNumber(
    [0.001, 10],
    facts("", "of the contrastive loss; unset: 0.05"),
  ),
  memoryMomentum: openNumber(
    [0, 1],
    facts("", "share of the old memory row that stays; unset: 0.2"),
  ),
  sourceUpdate: openWord(
    ["batch-mean", "sequential"],
    "how source rows move; unset: batch-mean",
  ),
  cluster: openWord(
    ["dbscan", "none"],
    "clusters, or every instance a class of its own; unset: dbscan",
  ),
  outliers: openWord(
    ["keep", "drop"],
    "whether un-clustered instances take part; unset: keep",
  ),
  sourceUse: openWord(
    ["joint", "pretrain"],
    "source crops in every batch, or only at first; unset: joint",
  ),
  reliability: openWord(
    ["all", "none", "independence", "compactness"],
    "which criteria keep an instance in its cluster; unset: all",
  ),
  dsbn: openWord(
    ["on", "off"],
    "domain-specific batch normalization; unset: on",
  ),
  clusterCentre: openWord(
    ["camera", "none"],
    "whether each camera's mean leaves the clustering's input; unset: the preset's",
  ),
  refreshMemory: openWord(
    ["auto", "off", "on", "average", "fade"],
    "what target rows take up of the present encoder before each clustering; unset: auto",
  ),
  featureBias: openWord(
    ["trained", "frozen"],
    "bias of the last batch norm; unset: by mode",
  ),
  k1: openWhole(
    // The row itself counts: with 1 every instance is an outlier.
    [2, 1000],
    facts("neighbours", "of the Jaccard distance; unset: chosen by the preset"),
  ),
  k2: openWhole(
    [1, 1000],
    facts("neighbours", "averaged over; unset: chosen by the preset"),
  ),
  eps: openNumber(
    [0, 1],
    facts("Jaccard distance", "radius of DBSCAN; unset: chosen by the preset"),
  ),
  epsGap: openNumber(
    [0, 1],
    facts(
      "Jaccard distance",
      "between eps and its tight and loose ones; unset: 0.02",
    ),
  ),
  minSamples: openWhole(
    [1, 1000],
    facts("rows", "that make a core point; unset: 4"),
  ),
  select: openWord(
    ["last", "best"],
    "which epoch is exported; best needs a validation set; unset: last",
  ),
  exportDomain: openWord(
    ["source", "target"],
    "whose batch norms are exported; unset: target, of a source run source",
  ),
  threads: openWhole(
    [0, 1024],
    facts("threads", "of the engine; unset or 0: as many as cores"),
  ),
  workers: openWhole(
    [0, 1024],
    facts("threads", "that decode and augment crops; unset: by cores"),
  ),
  publish: openText("models folder that the bundle is published to"),
  name: openText("model name that it is published under"),
});
