// How long the main thread of a server is held by calls into the addon and the store.
import { Worker } from "node:worker_threads";

import type { BlockingInput, BlockingTrial } from "./index-blocking-trial.js";
import { clusteredFeatures } from "./index-data.js";
import { type BenchRow, isQuick } from "./report.js";
import { runTrial } from "./trial.js";

const ROWS = isQuick ? 20_000 : 100_000;
const SECONDS = isQuick ? 5 : 30;

/** Threads that are busy beside the server: the addon's, the clients'. The empty process gets as many. */
const BUSY_THREADS = 4;

/** Rows of the report on the main thread. */
export async function blockingRows(): Promise<BenchRow[]> {
  const { rows, queries, dimension } = await clusteredFeatures(ROWS);
  const run = (input: BlockingInput) =>
    runTrial<BlockingTrial>("index-blocking-trial.js", input);
  const served = await run({ rows, queries, dimension, seconds: SECONDS });
  const busy = Array.from(
    { length: BUSY_THREADS },
    () => new Worker("for (;;);", { eval: true }),
  );
  const empty = await run({ dimension, seconds: Math.min(SECONDS, 10) });
  await Promise.all(busy.map((worker) => worker.terminate()));
  const note = `${served.calls} calls in ${SECONDS} s of bulk enrolment, single enrolments and searches`;
  const beside = (ms: number, clockMs: number, statMs: number) =>
    `${clockMs.toFixed(1)} ms by the clock, ${ms.toFixed(1)} ms without the time in which another thread had the processor; fs.stat in the empty process: ${statMs.toFixed(1)} ms`;
  const bars = isQuick
    ? {}
    : ({ p999: "≤ 1", worst: "≤ 5", delay: "≤ 2" } as const);
  return [
    {
      figure: "synchronous call on the main thread, p99.9",
      value: served.p999,
      unit: "ms",
      bar: bars.p999,
      against: beside(served.p999, served.clockP999, empty.p999),
      note,
    },
    {
      figure: "synchronous call on the main thread, worst",
      value: served.worst,
      unit: "ms",
      bar: bars.worst,
      against: beside(served.worst, served.clockWorst, empty.worst),
      note: `it was ${served.worstCall}`,
    },
    {
      figure: "event-loop delay p99, ratio",
      value: served.loopDelayP99 / empty.loopDelayP99,
      unit: "×",
      bar: bars.delay,
      against: `an empty process beside ${BUSY_THREADS} busy threads`,
      note: `${served.loopDelayP99.toFixed(1)} ms, ${empty.loopDelayP99.toFixed(1)} ms there`,
    },
  ];
}
