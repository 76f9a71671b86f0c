import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { readBundle } from "#core/manifest";
import { engines } from "#train/engines";
import { evaluateBundle } from "#train/bundle-evaluation";
import { loadCheckpoint, saveCheckpoint } from "#train/checkpoint";
import type { TrainOptions } from "#train/settings";
import { train, type TrainResult } from "#train/train";
import { STRIPED_SIZE, writeStripedDomain } from "../support/striped-domain.js";

const engine = engines.onnxruntime({ threads: 1 });

let root = "";
let source = "";
let target = "";
let runs = 0;

before(async () => {
  root = await mkdtemp(join(tmpdir(), "spcl-"));
  source = await writeStripedDomain({
    folder: join(root, "source"),
    seed: 1,
    identities: 8,
    cameras: 3,
    crops: 2,
  });
  target = await writeStripedDomain({
    folder: join(root, "target"),
    seed: 2,
    identities: 6,
    cameras: 2,
    crops: 3,
    withTest: true,
  });
});
after(() => rm(root, { recursive: true }));

/** A run of a few seconds. */
function small(options: Partial<TrainOptions>): TrainOptions {
  return {
    encoder: "resnet_tiny",
    ...STRIPED_SIZE,
    epochs: 3,
    iterations: 4,
    batchSize: 16,
    threads: 1,
    out: join(root, `run-${runs++}`),
    ...options,
  };
}

function runOf(
  options: TrainOptions,
  signal?: AbortSignal,
): Promise<TrainResult> {
  return train(options, {
    engine,
    clock: systemClock,
    ...(signal === undefined ? {} : { signal }),
  });
}

async function bundleBytes({ bundle }: TrainResult): Promise<Buffer> {
  return Buffer.concat([
    await readFile(join(bundle, "encoder.onnx")),
    await readFile(join(bundle, "manifest.json")),
  ]);
}

async function checkpointBytes(
  { folder }: TrainResult,
  epoch: number,
): Promise<Buffer> {
  return readFile(join(folder, "checkpoints", `epoch-0000${epoch}.checkpoint`));
}

/** Runs until an epoch has begun, then breaks off. */
async function stopIn(wanted: number, options: TrainOptions): Promise<void> {
  const stop = new AbortController();
  await assert.rejects(
    train(options, {
      engine,
      clock: systemClock,
      signal: stop.signal,
      onProgress: ({ epoch }) => {
        if (epoch === wanted) stop.abort();
      },
    }),
    { name: "AbortError" },
  );
}

/** Writes NaN into a tensor of a run's last checkpoint. @returns the checkpoint's path */
async function spoil(out: string, name: string): Promise<string> {
  const folder = join(out, "checkpoints");
  const last = await loadCheckpoint(folder);
  const tensor = last?.checkpoint.training.tensors.get(name);
  assert.ok(last !== undefined && tensor !== undefined, name);
  tensor.fill(NaN);
  return saveCheckpoint(folder, last.checkpoint);
}

describe("train", () => {
  test("gives the same bytes for the same seed, whatever the number of workers, and resumes bit for bit", async () => {
    const uda = { mode: "uda", source, target, warmupEpochs: 1 } as const;
    const whole = await runOf(small({ ...uda, workers: 1 }));
    const again = await runOf(
      small({ ...uda, workers: 2, cropCacheBytes: 20_000 }),
    );
    assert.ok((await bundleBytes(whole)).equals(await bundleBytes(again)));

    const broken = small({ ...uda });
    const stop = new AbortController();
    await assert.rejects(
      train(broken, {
        engine,
        clock: systemClock,
        signal: stop.signal,
        onProgress: ({ epoch, iteration }) => {
          if (epoch === 3 && iteration === 2) stop.abort();
        },
      }),
      { name: "AbortError" },
    );
    const resumed = await runOf({ out: broken.out, resume: true });
    assert.ok((await bundleBytes(whole)).equals(await bundleBytes(resumed)));
    assert.ok(
      (await checkpointBytes(whole, 3)).equals(
        await checkpointBytes(resumed, 3),
      ),
    );
    assert.deepEqual(
      resumed.epochs.map(({ epoch, phase, meanLoss }) => [
        epoch,
        phase,
        meanLoss,
      ]),
      whole.epochs.map(({ epoch, phase, meanLoss }) => [
        epoch,
        phase,
        meanLoss,
      ]),
    );
  });

  test("gives another encoder for another seed", async () => {
    const bundles = await Promise.all(
      [1, 2].map(async (seed) => {
        const options = small({ mode: "usl", target, seed, epochs: 1 });
        return bundleBytes(await runOf(options));
      }),
    );
    assert.ok(!bundles[0].equals(bundles[1]));
  });

  test("lowers the loss, finds the identities, exports what it trained, and publishes it", async () => {
    const publish = join(root, "models");
    const result = await runOf(
      small({
        mode: "usl",
        target,
        epochs: 5,
        iterations: 8,
        publish,
        name: "striped",
      }),
    );
    const [first, last] = [result.epochs[0], result.epochs[4]];
    assert.ok(Number(last.meanLoss) < Number(first.meanLoss));
    assert.ok(
      Number(last.clustering?.ari) > 0.8,
      `ARI ${last.clustering?.ari}`,
    );
    assert.ok(result.verificationError < 1e-4);
    assert.deepEqual(result.published, { name: "striped", version: 1 });
    const { mAP, cmc } = await evaluateBundle(
      { model: join(publish, "striped"), data: target, format: "market1501" },
      { engine },
    );
    assert.ok(mAP > 0.8 && cmc[0] > 0.8, `mAP ${mAP}, rank-1 ${cmc[0]}`);
  });

  test("exports the best epoch when told to, and the other domain's copy beside", async () => {
    const result = await runOf(
      small({
        mode: "uda",
        source,
        target,
        validation: target,
        select: "best",
      }),
    );
    const manifest = JSON.parse(
      await readFile(join(result.bundle, "manifest.json"), "utf8"),
    ) as { metrics: { mAP: number } };
    const figures = result.epochs.map(({ mAP }) => mAP ?? 0);
    assert.equal(manifest.metrics.mAP, Math.max(...figures));
    assert.ok(result.sourceBundle);
  });

  test("trains the source alone and gives the target's statistics to a second bundle", async () => {
    const result = await runOf(small({ mode: "source", source, target }));
    assert.ok(result.epochs.every(({ phase }) => phase === "warmup"));
    assert.ok(result.targetStatisticsBundle);
  });

  const ablations: readonly Partial<TrainOptions>[] = [
    { preset: "paper" },
    { sourceUpdate: "sequential" },
    { outliers: "drop" },
    { sourceUse: "pretrain", warmupEpochs: 1 },
    { reliability: "none" },
    { dsbn: "off" },
    { cluster: "none" },
    { refreshMemory: "average" },
    { refreshMemory: "fade" },
    {
      clusterCentre: "none",
      refreshMemory: "off",
      learningRateSchedule: "step",
    },
  ];
  for (const ablation of ablations)
    test(`runs with ${JSON.stringify(ablation)}`, async () => {
      const result = await runOf(
        small({
          mode: "uda",
          source,
          target,
          epochs: 2,
          iterations: 2,
          ...ablation,
        }),
      );
      assert.equal(result.epochs.length, 2);
      assert.ok(Number.isFinite(result.epochs[1].meanLoss));
    });

  test("refuses a folder that holds a run, and settings other than the checkpoint's", async () => {
    const options = small({ mode: "usl", target, epochs: 1, iterations: 1 });
    await runOf(options);
    await assert.rejects(runOf(options), { code: "RUN_EXISTS" });
    await assert.rejects(
      runOf({ out: options.out, resume: true, temperature: 0.1 }),
      { code: "CHECKPOINT_MISMATCH", message: /temperature/ },
    );
  });

  test("stops on a loss that is not finite and says where and what to resume from", async () => {
    await assert.rejects(
      runOf(
        small({
          mode: "usl",
          target,
          temperature: 0.001,
          learningRate: 1,
          epochs: 2,
        }),
      ),
      {
        code: "LOSS_NOT_FINITE",
        message:
          /^loss is \S+ in epoch 1, iteration \d+: start again with a lower learning rate$/,
      },
    );
    const options = small({ mode: "usl", target, preset: "paper", epochs: 2 });
    await stopIn(2, options);
    const path = await spoil(options.out, "shared/weights/conv1.weight");
    await assert.rejects(runOf({ out: options.out, resume: true }), {
      code: "LOSS_NOT_FINITE",
      facts: { epoch: 2, iteration: 1, loss: "NaN", checkpoint: path },
      message: `loss is NaN in epoch 2, iteration 1: resume from ${path} with a lower learning rate`,
    });
  });

  test("writes no bundle that computes something else than the training graph", async () => {
    const options = small({ mode: "usl", target, epochs: 1, iterations: 1 });
    const { bundle } = await runOf(options);
    await rm(bundle, { recursive: true });
    await spoil(options.out, "shared/statistics/bn1.running_var");
    await assert.rejects(runOf({ out: options.out, resume: true }), {
      code: "EXPORT_VERIFICATION",
      message: /^features of 36 crops differ by NaN .*, allowed is 0\.0001: /,
    });
    assert.ok(!existsSync(bundle));
  });

  test("starts from another run's bundle, whose name its own goes on with", async () => {
    const first = await runOf(
      small({ mode: "usl", target, epochs: 1, iterations: 1 }),
    );
    const notes: string[] = [];
    const { bundle } = await train(
      small({
        ...{ mode: "usl", target, epochs: 1, iterations: 1 },
        encoder: first.folder,
      }),
      { engine, clock: systemClock, onMessage: (line) => notes.push(line) },
    );
    assert.match(
      notes[0],
      /^encoder resnet_tiny\/0: .* px, 128 numbers a feature, trained weights$/,
    );
    const { manifest } = await readBundle(bundle);
    assert.equal(manifest.name, "resnet_tiny");
  });

  test("says which weights of a file matched, and starts from them", async () => {
    const { bundle } = await runOf(
      small({ mode: "usl", target, epochs: 1, iterations: 1 }),
    );
    const notes: string[] = [];
    const weights = join(bundle, "encoder.onnx");
    await train(
      small({ mode: "usl", target, epochs: 1, iterations: 1, weights }),
      { engine, clock: systemClock, onMessage: (line) => notes.push(line) },
    );
    const said = notes.find((line) => line.startsWith("weights: "));
    assert.match(
      said ?? "",
      /^weights: [1-9]\d* matched, 0 missing, 0 of another shape, \d+ unused$/,
    );
  });
});

describe("degenerate data", () => {
  const cases: readonly (readonly [
    string,
    { identities: number; cameras: number; crops: number },
    Partial<TrainOptions>,
  ])[] = [
    [
      "every instance an outlier",
      { identities: 6, cameras: 2, crops: 1 },
      { eps: 0.01, epsGap: 0.005 },
    ],
    [
      "every instance an outlier, and those dropped",
      { identities: 6, cameras: 2, crops: 1 },
      { eps: 0.01, epsGap: 0.005, outliers: "drop" },
    ],
    [
      "one cluster",
      { identities: 1, cameras: 2, crops: 8 },
      { eps: 0.99, epsGap: 0.01, reliability: "none" },
    ],
    [
      "fewer instances than k1",
      { identities: 3, cameras: 2, crops: 1 },
      { k1: 30 },
    ],
    [
      "fewer instances than the grid's smallest k1",
      { identities: 2, cameras: 2, crops: 1 },
      {},
    ],
    ["one camera only", { identities: 4, cameras: 1, crops: 4 }, {}],
    [
      "a batch larger than the data",
      { identities: 3, cameras: 2, crops: 2 },
      { batchSize: 64 },
    ],
    ["one crop", { identities: 1, cameras: 1, crops: 1 }, {}],
  ];
  for (const [name, shape, options] of cases)
    test(`trains on: ${name}`, async () => {
      const folder = join(root, `degenerate-${runs++}`);
      const few = await writeStripedDomain({ folder, seed: 3, ...shape });
      const result = await runOf(
        small({
          mode: "usl",
          target: few,
          epochs: 2,
          iterations: 2,
          ...options,
        }),
      );
      assert.equal(result.epochs.length, 2);
      const { clustering, meanLoss } = result.epochs[1];
      assert.ok(clustering);
      assert.ok(meanLoss === null || Number.isFinite(meanLoss));
    });

  test("trains on while the number of clusters shrinks and grows", async () => {
    const result = await runOf(
      small({
        ...{ mode: "usl", target, epochs: 5, iterations: 6 },
        ...{ preset: "paper", k1: 8, k2: 2, eps: 0.5 },
      }),
    );
    const counts = result.epochs.map(({ clustering }) => clustering?.clusters);
    assert.ok(new Set(counts).size > 1, `clusters ${counts.join(", ")}`);
    for (const { meanLoss } of result.epochs)
      assert.ok(Number.isFinite(meanLoss));
  });

  test("trains jointly with source identities of one crop", async () => {
    const single = await writeStripedDomain({
      folder: join(root, "single"),
      seed: 4,
      identities: 6,
      cameras: 1,
      crops: 1,
    });
    const result = await runOf(
      small({ mode: "uda", source: single, target, epochs: 2, iterations: 2 }),
    );
    assert.equal(result.epochs.length, 2);
  });
});
