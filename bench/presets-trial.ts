import { systemClock } from "#core/clock";
import { centreByCamera } from "#memory/centring";
import { partitionAgreement } from "#memory/agreement";
import { clusterInstances, PAPER_CLUSTERING } from "#memory/clustering-run";
import { chooseClustering } from "#memory/consensus";
import { embedDataSet, evaluateBundle } from "#train/bundle-evaluation";
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
  /** Mode `source`, where the target's statistics were taken: how well its crops cluster before any adaptation. */
  readonly centring?: Readonly<
    Record<"shared" | "apart", Readonly<Record<"camera" | "none", number>>>
  >;
  /** Folder of the bundle. */
  readonly bundle: string;
  readonly seconds: number;
}

const { options, source, target, out } = trialInput<PresetsInput>();
// Two trials run side by side, a core each.
const engine = engines.onnxruntime({ threads: 1 });
const started = systemClock.monotonic();
const result = await train(
  { ...options, out, threads: 1, workers: 1 },
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

/**
 * ARI of the chosen clustering of the target's training crops, with each camera's mean removed and not: of all of
 * them, and of a half in which cameras 1 and 2 see other identities than cameras 3 and 4.
 */
async function centringOf(
  model: string,
): Promise<NonNullable<PresetsTrial["centring"]>> {
  const { train: crops, bundle } = await embedDataSet(
    { model, data: target, format: "market1501", threads: 1, workers: 1 },
    ["train"],
    { engine },
  );
  const { dimension } = bundle.manifest;
  const ariOf = async (rows: readonly number[], centre: "camera" | "none") => {
    const own = Float32Array.from(
      rows.flatMap((i) => [
        ...crops.features.subarray(i * dimension, (i + 1) * dimension),
      ]),
    );
    const features =
      centre === "none"
        ? own
        : centreByCamera(
            own,
            rows.map((i) => crops.cameras[i]),
            dimension,
          );
    const neighbours = await engine.neighbours(features, dimension, 30);
    const input = { features, dimension, neighbours };
    const { epsGap, minSamples } = PAPER_CLUSTERING;
    const { chosen } = chooseClustering(input, { epsGap, minSamples, seed: 1 });
    const { labels } = clusterInstances(input, {
      ...PAPER_CLUSTERING,
      ...chosen,
    });
    const identities = rows.map((i) => crops.identities[i]);
    return partitionAgreement(labels, identities).ari;
  };
  const all = Array.from(crops.identities, (_, i) => i);
  const apart = all.filter(
    (i) => crops.identities[i] % 2 === (crops.cameras[i] <= 2 ? 0 : 1),
  );
  return {
    shared: {
      camera: await ariOf(all, "camera"),
      none: await ariOf(all, "none"),
    },
    apart: {
      camera: await ariOf(apart, "camera"),
      none: await ariOf(apart, "none"),
    },
  };
}

const { bundle, sourceBundle, targetStatisticsBundle } = result;
const sourceModel = options.mode === "source" ? bundle : sourceBundle;
const trial: PresetsTrial = {
  target: await points(bundle, target),
  ...(targetStatisticsBundle === undefined
    ? {}
    : {
        targetStatistics: await points(targetStatisticsBundle, target),
        centring: await centringOf(targetStatisticsBundle),
      }),
  ...(sourceModel === undefined
    ? {}
    : { source: await points(sourceModel, source) }),
  bundle,
  seconds,
};
trialResult(trial);
