// What a gallery of 200,000 costs at start, and in memory.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import { clusteredFeatures, DIMENSION } from "./index-data.js";
import { GRAPH, QUICKLY_LINKED } from "./index-libraries.js";
import type { MemoryTrial } from "./index-memory-trial.js";
import { startBenchServer } from "./index-server.js";
import { clientRun, indexed, makeGallery } from "./index-traffic.js";
import { type BenchRow, isQuick, median } from "./report.js";
import { runTrial } from "./trial.js";

const run = promisify(execFile);

const ROWS = isQuick ? 10_000 : 200_000;
const ROUNDS = isQuick ? 1 : 3;

/** Rows of the report on starting. */
export async function startRows(): Promise<BenchRow[]> {
  const data = await clusteredFeatures(ROWS);
  const rows: BenchRow[] = [];
  for (const kind of ["flat", "hnsw"] as const) {
    const first = await startBenchServer();
    await makeGallery(first, "door", kind, QUICKLY_LINKED);
    await clientRun(first, data, {
      gallery: "door",
      does: "bulk",
      count: ROWS,
      callers: 4,
    });
    await indexed(first, "door");
    await first.stop();
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const server = await startBenchServer(first.folder);
      times.push(server.startS);
      await (round < ROUNDS - 1 ? server.stop() : server.remove());
    }
    rows.push({
      figure: `start of a server, ${kind}`,
      value: median(times),
      unit: "s",
      ...(isQuick ? {} : { bar: "≤ 5" as const }),
      note: `${ROWS} × ${DIMENSION}; from the start of the process to its first answer; median of ${ROUNDS}`,
    });
  }
  return rows;
}

/** Rows of the report on memory. */
export async function memoryRows(): Promise<BenchRow[]> {
  await run("bench/peers/faiss/build.sh");
  const data = await clusteredFeatures(ROWS);
  const ours = await runTrial<MemoryTrial>("index-memory-trial.js", data);
  const { stdout } = await run(join("out", "peers", "faiss", "kernels"), [
    "build",
    data.rows,
    `${DIMENSION}`,
    `${GRAPH.m}`,
    `${QUICKLY_LINKED}`,
  ]);
  const { aboveFeaturesBytes } = JSON.parse(stdout) as MemoryTrial;
  const note = `HNSW, m ${GRAPH.m}, efConstruction ${QUICKLY_LINKED}, ${data.note}; resident, without the caller's own rows`;
  return [
    {
      figure: "memory above the features",
      value: ours.aboveFeaturesBytes / 1e6,
      unit: "MB",
      note,
    },
    {
      figure: "memory above the features, ratio",
      value: ours.aboveFeaturesBytes / aboveFeaturesBytes,
      unit: "×",
      ...(isQuick ? {} : { bar: "≤ 1.3" as const }),
      against: "FAISS in C++",
      note: `${(aboveFeaturesBytes / 1e6).toFixed(0)} MB there`,
    },
  ];
}
