import { join } from "node:path";
import {
  type BundleEvaluation,
  evaluateBundle,
} from "#train/bundle-evaluation";
import { assert } from "#core/errors";
import type { TrainingEngine } from "#train/engine";
import type { TrainProgress } from "#train/metrics-log";
import type { TrainOptions } from "#train/settings";
import { renderDomain } from "#train/synth";
import { train, type TrainResult } from "#train/train";
import type { CommandContext } from "../command.js";
import {
  cropsOf,
  domainRecipes,
  trainingRecipe,
  warmupEpochs,
} from "./recipe.js";

/** What the stages of the demonstration share. */
export interface DemoContext {
  readonly command: CommandContext;
  readonly engine: TrainingEngine;
  /** Folder of everything the demonstration leaves behind. */
  readonly folder: string;
  readonly seed: number;
}

/** The rendered data sets. */
export interface DemoDomains {
  readonly source: string;
  readonly target: string;
  readonly crops: number;
}

/** Both encoders, and what they reach. */
export interface DemoTraining {
  readonly baseline: TrainResult;
  readonly adapted: TrainResult;
  /** Folder that the adapted encoder was published to. */
  readonly models: string;
  readonly figures: DemoFigures;
}

/** mAP and CMC of each encoder on each domain. */
export interface DemoFigures {
  readonly target: Readonly<
    Record<
      "baseline" | "baselineTargetStatistics" | "adapted",
      BundleEvaluation
    >
  >;
  readonly source: Readonly<Record<"baseline" | "adapted", BundleEvaluation>>;
}

/** Renders both domains. */
export async function renderDomains(demo: DemoContext): Promise<DemoDomains> {
  const { out, signal } = demo.command;
  const crops = cropsOf(domainRecipes.source) + cropsOf(domainRecipes.target);
  const progress = out.progress("rendering", crops);
  let finished = 0;
  const folders: string[] = [];
  for (const recipe of [domainRecipes.source, domainRecipes.target]) {
    const folder = join(demo.folder, "data", recipe.domain);
    const before = finished;
    await renderDomain({
      ...recipe,
      out: folder,
      seed: demo.seed,
      signal,
      onProgress: (done) => progress.update(before + done),
    });
    finished += cropsOf(recipe);
    folders.push(folder);
  }
  progress.end();
  const [source, target] = folders;
  return { source, target, crops };
}

/** Trains the source-only baseline and the adapted encoder from the same start, and evaluates both. */
export async function trainEncoders(
  demo: DemoContext,
  domains: DemoDomains,
): Promise<DemoTraining> {
  const models = join(demo.folder, "models");
  const { source, target } = domains;
  const baseline = await trainWithProgress(demo, "source-only", {
    ...trainingRecipe,
    seed: demo.seed,
    mode: "source",
    source,
    target,
    out: join(demo.folder, "runs", "baseline"),
  });
  const adapted = await trainWithProgress(demo, "adapting", {
    ...trainingRecipe,
    seed: demo.seed,
    mode: "uda",
    source,
    target,
    warmupEpochs,
    out: join(demo.folder, "runs", "adapted"),
    publish: models,
    name: "demo",
  });
  return {
    baseline,
    adapted,
    models,
    figures: await evaluateAll(demo, domains, { baseline, adapted }),
  };
}

async function trainWithProgress(
  demo: DemoContext,
  label: string,
  options: TrainOptions,
): Promise<TrainResult> {
  const { out, signal, clock } = demo.command;
  const total = trainingRecipe.epochs * trainingRecipe.iterations;
  const progress = out.progress(label, total);
  try {
    return await train(options, {
      engine: demo.engine,
      clock,
      signal,
      onProgress: (at) =>
        progress.update(
          Math.max(0, at.epoch - 1) * trainingRecipe.iterations + at.iteration,
          progressNote(at),
        ),
    });
  } finally {
    progress.end();
  }
}

function progressNote({ stage, loss, clusters }: TrainProgress): string {
  if (stage !== "training") return stage;
  const parts = [loss === undefined ? "" : `loss ${loss.toFixed(2)}`];
  if (clusters !== undefined) parts.push(`${clusters} clusters`);
  return parts.join(", ");
}

async function evaluateAll(
  demo: DemoContext,
  { source, target }: DemoDomains,
  { baseline, adapted }: Readonly<Record<"baseline" | "adapted", TrainResult>>,
): Promise<DemoFigures> {
  const figure = (model: string, data: string) =>
    evaluateBundle(
      { model, data, format: "market1501" },
      { engine: demo.engine, signal: demo.command.signal },
    );
  return {
    target: {
      baseline: await figure(baseline.bundle, target),
      baselineTargetStatistics: await figure(
        bundleOf(baseline.targetStatisticsBundle),
        target,
      ),
      adapted: await figure(adapted.bundle, target),
    },
    source: {
      baseline: await figure(baseline.bundle, source),
      adapted: await figure(bundleOf(adapted.sourceBundle), source),
    },
  };
}

/** The recipe's modes write these bundles. */
function bundleOf(folder: string | undefined): string {
  assert(folder !== undefined, "the run wrote the bundle of its other domain");
  return folder;
}
