import { join } from "node:path";
import { systemClock } from "#core/clock";
import { evaluateBundle } from "#train/bundle-evaluation";
import { engines } from "#train/engines";
import type { TrainOptions } from "#train/settings";
import { train } from "#train/train";
import { trialInput, trialResult } from "./trial.js";

/** What one run is trained with, and where its data lies. */
export interface PresetsInput {
  readonly options: Omit<TrainOptions, "out">;
  /** The rendered domains. */
  readonly source: string;
  readonly target: string;
  /** The run's folder. */
  readonly out: string;
}

/** mAP in points of 100. */
export interface PresetsTrial {
  readonly target: number;
  /** Mode `source`: the same weights with the target's own batch-norm statistics. */
  readonly targetStatistics?: number;
  readonly source?: number;
  /** Adjusted Rand index of the last clustering. */
  readonly ari?: number;
  readonly seconds: number;
}

const { options, source, target, out } = trialInput<PresetsInput>();
// Two trials run side by side, a core each.
const engine = engines.onnxruntime({ threads: 1 });
const started = systemClock.monotonic();
const result = await train(
  { ...options, out: join(out), threads: 1, workers: 1 },
  { engine, clock: systemClock },
);
const seconds = (systemClock.monotonic() - started) / 1000;

async function points(model: string, data: string): Promise<number> {
  const { mAP } = await evaluateBundle(
    { model, data, format: "market1501", threads: 1, workers: 1 },
    { engine },
  );
  return 100 * mAP;
}

const { bundle, sourceBundle, targetStatisticsBundle } = result;
const sourceModel = options.mode === "source" ? bundle : sourceBundle;
const trial: PresetsTrial = {
  target: await points(bundle, target),
  ...(targetStatisticsBundle === undefined
    ? {}
    : { targetStatistics: await points(targetStatisticsBundle, target) }),
  ...(sourceModel === undefined
    ? {}
    : { source: await points(sourceModel, source) }),
  ...(result.epochs.at(-1)?.clustering?.ari === undefined
    ? {}
    : { ari: result.epochs.at(-1)?.clustering?.ari ?? 0 }),
  seconds,
};
trialResult(trial);
