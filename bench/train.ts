import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { benchSeed, isQuick, median, writeReport } from "./report.js";
import type { TrainSizes, TrainTrial } from "./train-trial.js";
import { runTrial } from "./trial.js";

const run = promisify(execFile);

/** One iteration of ResNet-50 on person crops, forward, backward and Adam, as an encoder is trained in earnest. */
const sizes: TrainSizes = {
  batch: 16,
  heightPx: 256,
  widthPx: 128,
  prototypes: 512,
  iterations: isQuick ? 2 : 4,
  threads: cpus().length,
  seed: benchSeed,
};
const TRIALS = isQuick ? 1 : 3;

/** PyTorch's two memory layouts for convolutions; the faster one is compared with. */
const LAYOUTS = { "channels last": 1, "channels first": 0 } as const;
type Layout = keyof typeof LAYOUTS;

interface PeerTrial {
  readonly version: string;
  readonly seconds: readonly number[];
}

/** The peer reads no setting that would bind its libraries to one kind of processor. */
const {
  OPENBLAS_CORETYPE: _type,
  OPENBLAS_L2_SIZE: _size,
  ...environment
} = process.env;

const root = fileURLToPath(new URL("../../", import.meta.url));
await run("bash", ["bench/peers/install-pytorch.sh"], { cwd: root });

async function peerTrial(layout: Layout): Promise<PeerTrial> {
  const { batch, heightPx, widthPx, prototypes, iterations, threads } = sizes;
  const { stdout } = await run(
    "out/peers/pytorch/bin/python",
    [
      "bench/peers/resnet50.py",
      ...[batch, heightPx, widthPx, prototypes, iterations, threads].map(
        String,
      ),
      String(LAYOUTS[layout]),
    ],
    { cwd: root, env: environment },
  );
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as PeerTrial;
}

const layouts = Object.keys(LAYOUTS) as Layout[];
const ours: TrainTrial[] = [];
const peers: Record<Layout, PeerTrial[]> = {
  "channels last": [],
  "channels first": [],
};
for (let trial = 0; trial < TRIALS; trial++) {
  ours.push(await runTrial<TrainTrial>("train-trial.js", sizes));
  for (const layout of layouts) peers[layout].push(await peerTrial(layout));
}

/** Median over trials of each trial's median iteration. */
const secondsOf = (
  trials: readonly { readonly seconds: readonly number[] }[],
): number => median(trials.map(({ seconds }) => median(seconds)));
const eachOf = (
  trials: readonly { readonly seconds: readonly number[] }[],
): string =>
  `each trial: ${trials.map(({ seconds }) => median(seconds).toFixed(2)).join(", ")} s`;

const best = layouts.reduce((a, b) =>
  secondsOf(peers[b]) < secondsOf(peers[a]) ? b : a,
);
const { batch, heightPx, widthPx, threads, prototypes } = sizes;
const [{ version }] = peers[best];
const peerName = `PyTorch ${version}, ${best}`;
const work = `ResNet-50, ${heightPx} × ${widthPx}, batch ${batch}, ${prototypes} prototypes, float32, ${threads} threads`;

await writeReport("train", [
  {
    figure: "images a second, of the peer's",
    value: secondsOf(peers[best]) / secondsOf(ours),
    unit: "1",
    // A single short trial of each says little: two cores are seldom idle for both.
    ...(isQuick ? {} : { bar: "≥ 0.9" as const }),
    against: peerName,
    note: `${work}; forward, loss, backward, Adam`,
  },
  {
    figure: "one iteration",
    value: secondsOf(ours),
    unit: "s",
    note: `median of ${TRIALS}; ${eachOf(ours)}`,
  },
  {
    figure: "images a second",
    value: batch / secondsOf(ours),
    unit: "1/s",
    note: work,
  },
  ...layouts.map((layout) => ({
    figure: "one iteration of the peer",
    value: secondsOf(peers[layout]),
    unit: "s",
    against: `PyTorch ${version}, ${layout}`,
    note: eachOf(peers[layout]),
  })),
  {
    figure: "from opening to the end of the first iteration",
    value: median(ours.map(({ firstS }) => firstS)),
    unit: "s",
    note: "writing the training graph and compiling it included",
  },
  {
    figure: "copied by the runtime unasked, an iteration",
    value: ours[0].copiedBytes / 1e6,
    unit: "MB",
    note: `weights, moments and statistics, already written in place; such a copy takes ${(1000 * median(ours.map(({ copyS }) => copyS))).toFixed(0)} ms`,
  },
  {
    figure: "peak memory",
    value: median(ours.map(({ residentBytes }) => residentBytes)) / 1e9,
    unit: "GB",
    note: "of the process, Node included",
  },
]);
