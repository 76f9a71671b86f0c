import { systemClock } from "#core/clock";
import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { createOnnxruntimeEngine } from "#train/engines/onnxruntime";
import { encoders } from "#train/encoders";

import { median } from "./report.js";
import { trialInput, trialResult } from "./trial.js";

/** Sizes of one timed training. */
export interface TrainSizes {
  readonly batch: number;
  readonly heightPx: number;
  readonly widthPx: number;
  readonly prototypes: number;
  /** Timed iterations; one more goes before them. */
  readonly iterations: number;
  readonly threads: number;
  readonly seed: number;
}

/** What one process measured. */
export interface TrainTrial {
  /** Of each timed iteration. */
  readonly seconds: readonly number[];
  /** From opening the session to the end of the first iteration: writing, compiling, first touch of the memory. */
  readonly firstS: number;
  /** Largest resident size of the process. */
  readonly residentBytes: number;
  readonly losses: readonly number[];
  /** Bytes that the engine copies each iteration without being asked, and how long such a copy takes. */
  readonly copiedBytes: number;
  readonly copyS: number;
}

const { batch, heightPx, widthPx, prototypes, iterations, threads, seed } =
  trialInput<TrainSizes>();
const { build, dimension } = encoders.resnet50;
const encoder = build({ heightPx, widthPx, seed, features: 0 });
const time = systemClock.monotonic;

const stream = randomStream(seed, "bench train");
const normals = (count: number) =>
  Float32Array.from({ length: count }, () => stream.normal());
const images = normals(batch * 3 * heightPx * widthPx);
const rows = normalizeRows(normals(prototypes * dimension), dimension);

const start = time();
const session = await createOnnxruntimeEngine().open({
  encoder,
  heightPx,
  widthPx,
  domainSpecificBatchNorm: false,
  featureBias: "trained",
  temperature: 0.05,
  weightDecay: 5e-4,
  adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
  device: "cpu",
  threads,
});
const input = {
  target: {
    images,
    count: batch,
    prototypeOf: Int32Array.from({ length: batch }, (_, b) => b % prototypes),
  },
  prototypes: rows,
  prototypeCount: prototypes,
  learningRate: 3.5e-4,
};
const losses = [(await session.iterate(input)).loss];
const firstS = (time() - start) / 1000;
const seconds: number[] = [];
for (let i = 0; i < iterations; i++) {
  const before = time();
  losses.push((await session.iterate(input)).loss);
  seconds.push((time() - before) / 1000);
}
const { copiedBytes } = session;
const copies: number[] = [];
for (let i = 0; i < 5; i++) {
  // Three vectors, as weights and moments are: fresh memory for each, as the engine takes it.
  const vector = new Float32Array(copiedBytes / 4 / 3).fill(1);
  const before = time();
  for (let v = 0; v < 3; v++) vector.slice();
  copies.push((time() - before) / 1000);
}
const copyS = median(copies);
const residentBytes = process.resourceUsage().maxRSS * 1024;
trialResult({
  seconds,
  firstS,
  residentBytes,
  losses,
  copiedBytes,
  copyS,
} satisfies TrainTrial);
await session.close();
