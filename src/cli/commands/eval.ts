import { evaluateBundle } from "#train/bundle-evaluation";
import { engines, type EngineName } from "#train/engines";
import type { Device } from "#train/engine";
import type { DataFormat } from "#train/settings";
import {
  choiceFlag,
  hasFlag,
  numberFlag,
  requiredFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";

/** Ranks of the CMC that are printed. */
const ranks = [1, 5, 10] as const;

/** `reid eval`: mAP and CMC of a bundle on a labelled data set. */
export const command: Command = {
  name: "eval",
  summary: "search a labelled data set's queries in its gallery: mAP and CMC",
  usage: "--model BUNDLE|RUN|MODELS/NAME --data DIR [flags]",
  options: {
    model: {
      type: "string",
      placeholder: "PATH",
      description:
        "a run's folder, a bundle's folder, or MODELS/NAME (its newest version)",
    },
    data: {
      type: "string",
      placeholder: "DIR",
      description: "data set with query and gallery",
    },
    format: {
      type: "string",
      placeholder: "market1501",
      default: "market1501",
      description: "layout of the data set",
    },
    rerank: {
      type: "boolean",
      description: "re-rank by k-reciprocal encoding before judging",
    },
    "skip-bad": {
      type: "boolean",
      description:
        "leave out and list files that do not fit or cannot be decoded",
    },
    engine: {
      type: "string",
      placeholder: "NAME",
      default: "onnxruntime",
      description: "onnxruntime",
    },
    device: {
      type: "string",
      placeholder: "auto|cpu|cuda|webgpu",
      default: "auto",
      description: "where the encoder runs",
    },
    threads: {
      type: "string",
      placeholder: "N",
      description: "of the engine (default: all cores)",
    },
    workers: {
      type: "string",
      placeholder: "N",
      description: "threads that decode crops (default: 2)",
    },
  },
  run,
};

async function run({
  flags,
  out,
  signal,
}: CommandContext): Promise<JsonObject> {
  const threads =
    numberFlag(flags, "threads", {
      minimum: 0,
      maximum: 1024,
      integer: true,
    }) ?? 0;
  const engine =
    choiceFlag<EngineName>(flags, "engine", ["onnxruntime"]) ?? "onnxruntime";
  const progress = out.progress("embedding", 1);
  const result = await evaluateBundle(
    {
      model: requiredFlag(flags, "model"),
      data: requiredFlag(flags, "data"),
      format:
        choiceFlag<DataFormat>(flags, "format", ["market1501"]) ?? "market1501",
      rerank: hasFlag(flags, "rerank"),
      skipBad: hasFlag(flags, "skip-bad"),
      device:
        choiceFlag<Device>(flags, "device", [
          "auto",
          "cpu",
          "cuda",
          "webgpu",
        ]) ?? "auto",
      threads,
      workers:
        numberFlag(flags, "workers", {
          minimum: 1,
          maximum: 64,
          integer: true,
        }) ?? 2,
    },
    {
      engine: engines[engine]({ threads }),
      signal,
      onProgress: (done, total) =>
        progress.update(done / total, `${done} of ${total} crops`),
    },
  );
  progress.end();
  const { mAP, queries, gallery, skippedQueries, skipped } = result;
  const cmc = Object.fromEntries(
    ranks.map((rank) => [String(rank), result.cmc[rank - 1]]),
  );
  out.table([
    ["mAP", ...ranks.map((rank) => `rank-${rank}`), "queries", "gallery"],
    [
      mAP.toFixed(4),
      ...ranks.map((rank) => cmc[rank].toFixed(4)),
      queries,
      gallery,
    ],
  ]);
  for (const { reason } of skipped) out.line(`skipped: ${reason}`);
  return {
    mAP,
    cmc,
    queries,
    gallery,
    skippedQueries,
    skipped: skipped.map(({ path, reason }) => ({ path, reason })),
  };
}
