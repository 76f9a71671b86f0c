import { loadConfig, type Config, type ConfigOverrides } from "#core/config";
import { engines, type EngineName } from "#train/engines";
import type { TrainProgress } from "#train/metrics-log";
import type { TrainOptions } from "#train/settings";
import { train, type TrainResult } from "#train/train";
import {
  choiceFlag,
  hasFlag,
  numberFlag,
  textFlag,
  UsageError,
  type Command,
  type CommandContext,
  type Flags,
  type JsonObject,
  type OptionSpec,
} from "../command.js";
import type { Output } from "../output.js";
import type { Progress } from "../progress.js";

/** A flag that sets a key of the configuration's `train` section (or, `device`, of its root). */
interface SettingFlag {
  /** Dotted path as configuration files write it. */
  readonly path: string;
  readonly placeholder: string;
  readonly isNumber?: true;
  readonly description: string;
}

const text = (
  path: string,
  placeholder: string,
  description: string,
): SettingFlag => ({
  path,
  placeholder,
  description,
});
const number = (
  path: string,
  placeholder: string,
  description: string,
): SettingFlag => ({
  path,
  placeholder,
  isNumber: true,
  description,
});

/** Every flag that a configuration file may hold too. */
const settingFlags: Readonly<Record<string, SettingFlag>> = {
  mode: text(
    "train.mode",
    "uda|usl|source",
    "with a source domain, without one, or the source alone (default: uda where --source is given)",
  ),
  preset: text(
    "train.preset",
    "auto|paper",
    "settings that fit the data, or those of the article (default: auto)",
  ),
  source: text("train.source", "DIR", "labelled data set"),
  target: text("train.target", "DIR", "unlabelled data set"),
  validation: text(
    "train.validation",
    "DIR",
    "labelled data set, searched after every epoch",
  ),
  format: text(
    "train.format",
    "market1501",
    "layout of the data sets (default: market1501)",
  ),
  encoder: text(
    "train.encoder",
    "NAME|FILE|BUNDLE|RUN|MODELS/NAME",
    "built-in encoder, ONNX file, or a bundle's encoder (default: resnet50)",
  ),
  weights: text(
    "train.weights",
    "FILE",
    "ONNX file with initial weights, by name and shape",
  ),
  features: number(
    "train.features",
    "D",
    "linear layer behind the pooling (default: none)",
  ),
  "feature-node": text(
    "train.feature_node",
    "NAME",
    "value of the ONNX file that is the feature",
  ),
  out: text("train.out", "DIR", "the run's folder"),
  seed: number("train.seed", "N", "of every random choice (default: 1)"),
  epochs: number("train.epochs", "N", "clusterings, each with its iterations"),
  "warmup-epochs": number("train.warmup_epochs", "N", "on the source alone"),
  iters: number("train.iters", "N", "iterations an epoch"),
  "batch-size": number(
    "train.batch_size",
    "B",
    "crops of each domain (default: 64)",
  ),
  height: number("train.height", "PX", "default: the encoder's own"),
  width: number("train.width", "PX", "default: the encoder's own"),
  pad: number(
    "train.pad",
    "PX",
    "zeros around a crop before the random window",
  ),
  lr: number("train.learning_rate", "RATE", "of Adam at the start"),
  "lr-schedule": text(
    "train.learning_rate_schedule",
    "constant|step|cosine|late-cosine",
    "how it falls",
  ),
  "weight-decay": number(
    "train.weight_decay",
    "X",
    "added to the gradient (default: 0.0005)",
  ),
  temperature: number(
    "train.temperature",
    "T",
    "of the contrastive loss (default: 0.05)",
  ),
  "memory-momentum": number(
    "train.memory_momentum",
    "M",
    "share of the old row that stays (default: 0.2)",
  ),
  "source-update": text(
    "train.source_update",
    "batch-mean|sequential",
    "how source rows move (default: batch-mean)",
  ),
  cluster: text(
    "train.cluster",
    "dbscan|none",
    "clusters, or every instance a class (default: dbscan)",
  ),
  outliers: text(
    "train.outliers",
    "keep|drop",
    "whether un-clustered instances take part (default: keep)",
  ),
  "source-use": text(
    "train.source_use",
    "joint|pretrain",
    "source crops in every batch, or only at first (default: joint)",
  ),
  reliability: text(
    "train.reliability",
    "all|none|independence|compactness",
    "what keeps an instance in its cluster (default: all)",
  ),
  dsbn: text(
    "train.dsbn",
    "on|off",
    "a copy of the batch norms for each domain (default: on)",
  ),
  "cluster-centre": text(
    "train.cluster_centre",
    "camera|none",
    "whether each camera's mean leaves the clustering's input",
  ),
  "refresh-memory": text(
    "train.refresh_memory",
    "auto|off|on|average|fade",
    "what target rows take up of the present encoder before each clustering (default: auto)",
  ),
  "feature-bias": text(
    "train.feature_bias",
    "trained|frozen",
    "bias of the last batch norm",
  ),
  k1: number(
    "train.k1",
    "N",
    "neighbours; any of the next five given switches the choice off",
  ),
  k2: number("train.k2", "N", "neighbours averaged over"),
  eps: number("train.eps", "X", "radius of DBSCAN, Jaccard distance"),
  "eps-gap": number(
    "train.eps_gap",
    "X",
    "to the tight and loose radius (default: 0.02)",
  ),
  "min-samples": number(
    "train.min_samples",
    "N",
    "rows that make a core point (default: 4)",
  ),
  select: text(
    "train.select",
    "last|best",
    "which epoch is exported; best needs --validation (default: last)",
  ),
  "export-domain": text(
    "train.export_domain",
    "target|source",
    "whose batch norms are exported",
  ),
  device: text(
    "device",
    "auto|cpu|cuda|webgpu",
    "where it runs (default: auto)",
  ),
  threads: number("train.threads", "N", "of the engine (default: all cores)"),
  workers: number("train.workers", "N", "threads that decode crops"),
  publish: text(
    "train.publish",
    "MODELS",
    "models folder to publish the bundle to, with --name",
  ),
  name: text("train.name", "NAME", "model name to publish under"),
};

const otherOptions: Readonly<Record<string, OptionSpec>> = {
  config: {
    type: "string",
    placeholder: "FILE",
    description: "YAML file with any of these; flags go before it",
  },
  engine: {
    type: "string",
    placeholder: "NAME",
    default: "onnxruntime",
    description: "onnxruntime",
  },
  "cache-bytes": {
    type: "string",
    placeholder: "N",
    description: "resized crops kept in memory (default: 2 GiB)",
  },
  "skip-bad": {
    type: "boolean",
    description:
      "leave out and list files that do not fit or cannot be decoded",
  },
  resume: {
    type: "boolean",
    description: "go on after the newest checkpoint in --out",
  },
};

/** `reid train`: trains or adapts an encoder. */
export const command: Command = {
  name: "train",
  summary:
    "adapt an encoder to unlabelled crops, with or without a labelled source",
  usage: "--target DIR [--source DIR] --out DIR [flags]",
  options: {
    ...Object.fromEntries(
      Object.entries(settingFlags).map(
        ([name, { placeholder, description }]) => [
          name,
          { type: "string", placeholder, description } as const,
        ],
      ),
    ),
    ...otherOptions,
  },
  run,
};

async function run(context: CommandContext): Promise<JsonObject> {
  const { flags, out, signal, clock, environment } = context;
  const config = await loadConfig({
    file: textFlag(flags, "config"),
    environment,
    overrides: overridesFrom(flags),
  });
  const options = optionsFrom(config, flags);
  const engine =
    choiceFlag<EngineName>(flags, "engine", ["onnxruntime"]) ?? "onnxruntime";
  const shown = new ShownProgress(out);
  try {
    const result = await train(options, {
      engine: engines[engine]({ threads: options.threads ?? 0 }),
      clock,
      signal,
      onProgress: (progress) => shown.update(progress),
      onMessage: (line) => out.line(line),
    });
    shown.end();
    tell(out, result);
    return summaryOf(result);
  } finally {
    shown.end();
  }
}

function overridesFrom(flags: Flags): ConfigOverrides {
  return Object.fromEntries(
    Object.entries(settingFlags).map(([name, { path, isNumber }]) => [
      path,
      isNumber === true ? numberFlag(flags, name) : textFlag(flags, name),
    ]),
  );
}

/** The configuration under the names the trainer has; what is unset stays open. */
function optionsFrom(
  { train: section, device }: Config,
  flags: Flags,
): TrainOptions {
  const { out, iters, height, width, pad, ...same } = section;
  if (out === undefined || out === "")
    throw new UsageError(
      "--out is missing: give the run's folder, or see --help",
      "--out",
    );
  const fields: {
    readonly [K in keyof TrainOptions]: TrainOptions[K] | undefined;
  } = {
    ...same,
    out,
    device,
    iterations: iters,
    heightPx: height,
    widthPx: width,
    padPx: pad,
    cropCacheBytes: numberFlag(flags, "cache-bytes", {
      minimum: 0,
      integer: true,
    }),
    skipBad: hasFlag(flags, "skip-bad") ? true : undefined,
    resume: hasFlag(flags, "resume") ? true : undefined,
  };
  const given = Object.entries(fields).filter(
    ([, value]) => value !== undefined,
  );
  return { out, ...(Object.fromEntries(given) as Partial<TrainOptions>) };
}

/** A bar over all iterations; its length is known once the settings are. */
class ShownProgress {
  readonly #out: Output;
  #bar: Progress | undefined;

  constructor(out: Output) {
    this.#out = out;
  }

  update(at: TrainProgress): void {
    this.#bar ??= this.#out.progress("training", at.epochs * at.iterations);
    const done = Math.max(0, at.epoch - 1) * at.iterations + at.iteration;
    this.#bar.update(done, noteOf(at));
  }

  end(): void {
    this.#bar?.end();
  }
}

function noteOf(at: TrainProgress): string {
  const parts = [`epoch ${Math.max(1, at.epoch)}/${at.epochs}`];
  if (at.stage !== "training") parts.push(at.stage);
  if (at.loss !== undefined) parts.push(`loss ${at.loss.toFixed(3)}`);
  if (at.imagesPerSecond !== undefined)
    parts.push(`${at.imagesPerSecond.toFixed(0)} images/s`);
  if (at.clusters !== undefined) parts.push(`${at.clusters} clusters`);
  return parts.join(", ");
}

function tell(
  out: Output,
  { epochs, bundle, published, verificationError }: TrainResult,
): void {
  const last = epochs.at(-1);
  const loss = last?.meanLoss ?? undefined;
  out.line(
    `trained ${epochs.length} epochs${loss === undefined ? "" : `, last mean loss ${loss.toFixed(3)}`}; ` +
      `bundle ${bundle} agrees with the training graph to ${verificationError.toExponential(1)}`,
  );
  if (published !== undefined)
    out.line(`published as ${published.name} version ${published.version}`);
}

function summaryOf(result: TrainResult): JsonObject {
  const {
    folder,
    bundle,
    settings,
    epochs,
    verificationError,
    published,
    skipped,
  } = result;
  return {
    folder,
    bundle,
    settings: JSON.parse(JSON.stringify(settings)) as JsonObject,
    epochs: epochs.length,
    lastEpoch: JSON.parse(JSON.stringify(epochs.at(-1) ?? null)) as JsonObject,
    verificationError,
    published,
    skipped: skipped.map(({ path, reason }) => ({ path, reason })),
  };
}
