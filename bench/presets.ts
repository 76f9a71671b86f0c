import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  domainRecipes,
  trainingRecipe,
  warmupEpochs,
} from "../src/cli/demo/recipe.js";
import type { TrainOptions } from "#train/settings";
import { renderDomain } from "#train/synth";
import type { PresetsInput, PresetsTrial } from "./presets-trial.js";
import {
  benchSeed,
  type BenchRow,
  isQuick,
  median,
  writeReport,
} from "./report.js";
import { runTrial } from "./trial.js";

/** Runs of the bench: the demonstration's recipe with one thing changed each. */
type Variant =
  | "source-only"
  | "supervised"
  | "auto"
  | "paper"
  | "no centring"
  | "no refresh"
  | "no choice"
  | "no quiet end";

const adapted = {
  mode: "uda",
  warmupEpochs: isQuick ? 2 : warmupEpochs,
} as const;

const variants: Readonly<Record<Variant, Omit<TrainOptions, "out">>> = {
  "source-only": { mode: "source" },
  // Its source is the target's own training folder, with labels: the bound.
  supervised: { mode: "source" },
  auto: adapted,
  paper: { ...adapted, preset: "paper" },
  "no centring": { ...adapted, clusterCentre: "none" },
  "no refresh": { ...adapted, refreshMemory: "off" },
  "no choice": { ...adapted, k1: 30, k2: 6, eps: 0.6 },
  "no quiet end": { ...adapted, learningRateSchedule: "step" },
};

const steps: readonly Variant[] = [
  "no centring",
  "no refresh",
  "no choice",
  "no quiet end",
];

const seeds = isQuick ? [benchSeed] : [benchSeed, benchSeed + 1, benchSeed + 2];
const chosen = isQuick
  ? (["source-only", "auto", "paper"] as const)
  : (Object.keys(variants) as Variant[]);
/** The quick run is too short for the bars: it shows that everything runs. */
const length = isQuick ? { epochs: 6, iterations: 20 } : {};

const folder = await mkdtemp(join(tmpdir(), "reid-presets-"));
try {
  const results = await runAll();
  await writeReport("presets", rowsOf(results));
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Every variant with every seed, two at a time, each in a process of its own. */
async function runAll(): Promise<Map<Variant, PresetsTrial[]>> {
  const results = new Map<Variant, PresetsTrial[]>(
    chosen.map((variant) => [variant, []]),
  );
  const jobs: (() => Promise<void>)[] = [];
  for (const [at, seed] of seeds.entries()) {
    const data = await render(seed);
    for (const variant of chosen)
      jobs.push(async () => {
        const trial = await runVariant(variant, seed, data);
        const list = results.get(variant) ?? [];
        list[at] = trial;
        process.stderr.write(
          `seed ${seed}  ${variant.padEnd(14)} target ${trial.target.toFixed(1)}  ${trial.seconds.toFixed(0)} s\n`,
        );
      });
  }
  const worker = async () => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift())
      await job();
  };
  await Promise.all([worker(), worker()]);
  return results;
}

async function render(
  seed: number,
): Promise<{ readonly source: string; readonly target: string }> {
  const [source, target] = ["source", "target"].map((domain) =>
    join(folder, `${domain}-${seed}`),
  );
  await renderDomain({ ...domainRecipes.source, seed, out: source });
  await renderDomain({ ...domainRecipes.target, seed, out: target });
  return { source, target };
}

function runVariant(
  variant: Variant,
  seed: number,
  { source, target }: { readonly source: string; readonly target: string },
): Promise<PresetsTrial> {
  const isBound = variant === "supervised";
  const own = isBound ? target : source;
  return runTrial<PresetsTrial>("presets-trial.js", {
    options: {
      ...trainingRecipe,
      ...variants[variant],
      ...length,
      seed,
      source: own,
      ...(isBound ? {} : { target }),
    },
    source: own,
    target,
    out: join(folder, `${variant.replaceAll(" ", "-")}-${seed}`),
  } satisfies PresetsInput);
}

function rowsOf(results: ReadonlyMap<Variant, PresetsTrial[]>): BenchRow[] {
  const of = (variant: Variant, figure: (trial: PresetsTrial) => number) =>
    (results.get(variant) ?? []).map(figure);
  const target = (variant: Variant) => of(variant, (trial) => trial.target);
  const auto = target("auto");
  const sourceOnly = target("source-only");
  const statistics = of("source-only", (t) => t.targetStatistics ?? NaN);
  const gain = (over: readonly number[]) => auto.map((mAP, i) => mAP - over[i]);
  const least = (values: readonly number[]) => Math.min(...values);
  const bar = (text: NonNullable<BenchRow["bar"]>) =>
    isQuick ? {} : { bar: text };
  const rows: BenchRow[] = chosen.map((variant) => ({
    figure: `target mAP, ${variant}`,
    value: mean(target(variant)),
    unit: "points",
    note: each(target(variant)),
  }));
  rows.push(
    {
      figure: "target mAP, source-only with target statistics",
      value: mean(statistics),
      unit: "points",
      note: each(statistics),
    },
    {
      figure: "auto over source-only, least of the seeds",
      value: least(gain(sourceOnly)),
      unit: "points",
      ...bar("≥ 20"),
      note: each(gain(sourceOnly)),
    },
    {
      figure: "auto over target statistics, least of the seeds",
      value: least(gain(statistics)),
      unit: "points",
      ...bar("≥ 12"),
      note: each(gain(statistics)),
    },
    {
      figure: "source-only, least of the seeds",
      value: least(sourceOnly),
      unit: "points",
      ...bar("> 15"),
    },
    {
      figure: "auto over paper, mean",
      value: mean(gain(target("paper"))),
      unit: "points",
      ...bar("≥ 15"),
      note: each(gain(target("paper"))),
    },
  );
  const sourceChange = of("auto", (t) => t.source ?? NaN).map(
    (mAP, i) => mAP - of("source-only", (t) => t.source ?? NaN)[i],
  );
  rows.push({
    figure: "source mAP, auto less source-only, mean",
    value: mean(sourceChange),
    unit: "points",
    ...bar("≥ -1"),
    note: each(sourceChange),
  });
  if (isQuick) return rows;
  rows.push({
    figure: "supervised on the target, most of the seeds",
    value: Math.max(...target("supervised")),
    unit: "points",
    ...bar("< 97"),
    note: each(target("supervised")),
  });
  for (const step of steps)
    rows.push({
      figure: `worth of the step: auto less "${step}", mean`,
      value: mean(gain(target(step))),
      unit: "points",
      note: each(gain(target(step))),
    });
  rows.push({
    figure: "seconds of one adapted run on one core, median",
    value: median(of("auto", (trial) => trial.seconds)),
    unit: "s",
  });
  return rows;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function each(values: readonly number[]): string {
  return `seeds ${seeds.join(", ")}: ${values.map((value) => value.toFixed(1)).join(", ")}`;
}
