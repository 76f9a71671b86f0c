import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  domainRecipes,
  trainingRecipe,
  warmupEpochs,
} from "../src/cli/demo/recipe.js";
import { assert } from "#core/errors";
import type { MemoryRefresh, TrainOptions } from "#train/settings";
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

/** The rendered data of one seed. */
interface Domains {
  readonly source: string;
  readonly target: string;
}

/** Trials of each run, by seed. */
type Results = Map<Variant | Refined, PresetsTrial[]>;

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

/** Runs from the weights of source-only, without the source: defaults but for how the memory is refreshed. */
type Refined = `refined, refresh ${MemoryRefresh}`;

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
  "no quiet end": { ...adapted, learningRateSchedule: "constant" },
};

const steps: readonly Variant[] = [
  "no centring",
  "no refresh",
  "no choice",
  "no quiet end",
];

const refreshes: readonly MemoryRefresh[] = isQuick
  ? ["average"]
  : ["off", "on", "average"];
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

/** Every run with every seed, two at a time, each in a process of its own. */
async function runAll(): Promise<Results> {
  const results: Results = new Map();
  const jobs: (() => Promise<void>)[] = [];
  const noteOf = async (
    name: Variant | Refined,
    at: number,
    run: Promise<PresetsTrial>,
  ) => {
    const trial = await run;
    const list = results.get(name) ?? [];
    list[at] = trial;
    results.set(name, list);
    process.stderr.write(
      `seed ${seeds[at]}  ${name.padEnd(24)} target ${trial.target.toFixed(1)}  ${trial.seconds.toFixed(0)} s\n`,
    );
    return trial;
  };
  for (const [at, seed] of seeds.entries()) {
    const data = await render(seed);
    let weights: Promise<string> | undefined;
    for (const variant of chosen)
      jobs.push(async () => {
        const run = noteOf(variant, at, runVariant(variant, seed, data));
        if (variant === "source-only")
          weights = run.then(({ bundle }) => join(bundle, "encoder.onnx"));
        await run;
      });
    for (const refresh of refreshes)
      jobs.push(async () => {
        const encoder = await weights;
        assert(encoder !== undefined, "source-only is the first of the jobs");
        const name = `refined, refresh ${refresh}` as const;
        const run = refine(name, { encoder, refresh, seed, data });
        await noteOf(name, at, run);
      });
  }
  const worker = async () => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift())
      await job();
  };
  await Promise.all([worker(), worker()]);
  return results;
}

async function render(seed: number): Promise<Domains> {
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
  { source, target }: Domains,
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

/** The target alone, from weights that were trained on the source: as someone arrives with an encoder. */
function refine(
  name: Refined,
  {
    encoder,
    refresh,
    seed,
    data,
  }: {
    readonly encoder: string;
    readonly refresh: MemoryRefresh;
    readonly seed: number;
    readonly data: Domains;
  },
): Promise<PresetsTrial> {
  return runTrial<PresetsTrial>("presets-trial.js", {
    options: {
      ...length,
      mode: "usl",
      encoder,
      refreshMemory: refresh,
      seed,
      target: data.target,
    },
    ...data,
    out: join(folder, `${name.replaceAll(/\W+/g, "-")}-${seed}`),
  } satisfies PresetsInput);
}

function rowsOf(results: Results): BenchRow[] {
  const of = (
    variant: Variant | Refined,
    figure: (trial: PresetsTrial) => number,
  ) => (results.get(variant) ?? []).map(figure);
  const target = (variant: Variant | Refined) =>
    of(variant, (trial) => trial.target);
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
  for (const refresh of refreshes) {
    const refined = target(`refined, refresh ${refresh}`);
    rows.push({
      figure: `target mAP, from source-only weights, refresh ${refresh}`,
      value: mean(refined),
      unit: "points",
      note: each(refined),
    });
  }
  for (const cameras of ["shared", "apart"] as const)
    for (const centre of ["camera", "none"] as const) {
      const ari = of("source-only", ({ centring }) =>
        centring === undefined ? NaN : centring[cameras][centre],
      );
      rows.push({
        figure: `ARI of the first clustering, identities ${cameras}, centring ${centre}`,
        value: mean(ari),
        unit: "1",
        note: each(ari, 2),
      });
    }
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

function each(values: readonly number[], digits = 1): string {
  return `seeds ${seeds.join(", ")}: ${values.map((value) => value.toFixed(digits)).join(", ")}`;
}
