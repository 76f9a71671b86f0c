// A real server under enrolment and search over gRPC: server and clients share the machine's cores.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { systemClock } from "#core/clock";

import type { ClientInput, ClientTrial } from "./index-client-trial.js";
import {
  clusteredFeatures,
  DIMENSION,
  type BenchFeatures,
} from "./index-data.js";
import { GRAPH } from "./index-libraries.js";
import { startBenchServer, type BenchServer } from "./index-server.js";
import { type BenchRow, isQuick, median } from "./report.js";
import { runTrial } from "./trial.js";

const run = promisify(execFile);

const ROUNDS = isQuick ? 1 : 3;
/** Below search.tail (20,000): beyond it writes into a graph slow down to its pace. */
const SINGLES = isQuick ? 2000 : 15_000;
const BULK = isQuick ? 10_000 : 100_000;
/** Twice search.tail: the second half comes no faster than it is linked. */
const SUSTAINED = isQuick ? 3000 : 40_000;
/** The library's own loops would take an hour for all of them; their rate falls from here on. */
const PLAIN = isQuick ? 3000 : 10_000;
const HELD = isQuick ? 5000 : 50_000;
const SEARCH_S = isQuick ? 2 : 10;
const CLIENTS = 16;
/** Two transactions: while one is flushed the next arrives. */
const BULK_CALLS = 8;

type Kind = "flat" | "hnsw";

async function withServer<Result>(
  action: (server: BenchServer) => Promise<Result>,
): Promise<Result> {
  const server = await startBenchServer();
  try {
    return await action(server);
  } finally {
    await server.remove();
  }
}

/** A gallery for features made elsewhere. */
export async function makeGallery(
  { client }: BenchServer,
  name: string,
  kind: Kind,
  efConstruction: number = GRAPH.efConstruction,
): Promise<void> {
  await client.GalleryService.CreateGallery({
    gallery: {
      name,
      model: { name: "external", version: 1 },
      dimension: DIMENSION,
      index:
        kind === "flat"
          ? { flat: {} }
          : { hnsw: { m: GRAPH.m, efConstruction } },
    },
  });
}

/** Runs a client against the server, in a process of its own. */
export function clientRun(
  server: BenchServer,
  data: BenchFeatures,
  input: Omit<ClientInput, "address" | "features" | "dimension" | "first"> &
    Partial<ClientInput>,
): Promise<ClientTrial> {
  return runTrial<ClientTrial>("index-client-trial.js", {
    first: 0,
    features: data.rows,
    dimension: DIMENSION,
    address: server.address,
    ...input,
  });
}

/** Rows of the report on entries that come one by one. */
export async function singleRows(): Promise<BenchRow[]> {
  const data = await clusteredFeatures(SINGLES);
  const rows: BenchRow[] = [];
  for (const kind of ["flat", "hnsw"] as const) {
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++)
      await withServer(async (server) => {
        await makeGallery(server, "door", kind);
        const { count, seconds } = await clientRun(server, data, {
          gallery: "door",
          does: "single",
          count: SINGLES,
          callers: CLIENTS,
        });
        rates.push(count / seconds);
      });
    rows.push({
      figure: `single enrolments acknowledged, ${kind}`,
      value: median(rates),
      unit: "entries/s",
      ...(isQuick ? {} : { bar: "≥ 2000" as const }),
      note: `${CLIENTS} callers, ${SINGLES} × ${DIMENSION}, each flushed; median of ${ROUNDS}`,
    });
  }
  return rows;
}

/** Rows of the report on entries that come by the hundred. */
export async function bulkRows(): Promise<BenchRow[]> {
  const data = await clusteredFeatures(BULK);
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round++)
    await withServer(async (server) => {
      await makeGallery(server, "door", "flat");
      const { count, seconds } = await clientRun(server, data, {
        gallery: "door",
        does: "bulk",
        count: BULK,
        callers: BULK_CALLS,
      });
      rates.push(count / seconds);
    });
  return [
    {
      figure: "bulk enrolment acknowledged, flat",
      value: median(rates),
      unit: "entries/s",
      ...(isQuick ? {} : { bar: "≥ 20000" as const }),
      note: `${BULK} × ${DIMENSION}, 256 a call, ${BULK_CALLS} calls in flight; median of ${ROUNDS}`,
    },
  ];
}

/** Rows of the report on entries that come to be in the graph, against a bare build of the same graph. */
export async function sustainedRows(): Promise<BenchRow[]> {
  await run("bench/peers/faiss/build.sh");
  const data = await clusteredFeatures(SUSTAINED);
  const rowsOf = { plain: await clusteredFeatures(PLAIN), kernels: data };
  const ours: number[] = [];
  const peers: Record<"plain" | "kernels", number[]> = {
    plain: [],
    kernels: [],
  };
  for (let round = 0; round < ROUNDS; round++) {
    await withServer(async (server) => {
      await makeGallery(server, "door", "hnsw");
      const { startedAtMs } = await clientRun(server, data, {
        gallery: "door",
        does: "bulk",
        count: SUSTAINED,
        callers: 4,
      });
      await indexed(server, "door");
      ours.push((1000 * SUSTAINED) / (systemClock.now() - startedAtMs));
    });
    for (const build of ["plain", "kernels"] as const) {
      const { stdout } = await run(join("out", "peers", "faiss", build), [
        "build",
        rowsOf[build].rows,
        `${DIMENSION}`,
        `${GRAPH.m}`,
        `${GRAPH.efConstruction}`,
      ]);
      const { rowsPerS } = JSON.parse(stdout) as { rowsPerS: number };
      peers[build].push(rowsPerS);
    }
  }
  const note = `${SUSTAINED} × ${DIMENSION}, m ${GRAPH.m}, efConstruction ${GRAPH.efConstruction}, first call to last entry in the graph; median of ${ROUNDS}`;
  const bar = isQuick ? {} : { bar: "≥ 0.9" as const };
  return [
    {
      figure: "bulk enrolment into HNSW",
      value: median(ours),
      unit: "entries/s",
      note,
    },
    {
      figure: "bulk enrolment into HNSW, ratio",
      value: median(ours) / median(peers.plain),
      unit: "×",
      ...bar,
      against: `index.add of FAISS in C++, as Debian builds it, of ${PLAIN} rows: of more it is slower`,
      note,
    },
    {
      figure: "bulk enrolment into HNSW, ratio",
      value: median(ours) / median(peers.kernels),
      unit: "×",
      ...bar,
      against: "index.add of FAISS in C++ with our kernels",
      note,
    },
  ];
}

/** Waits until the index holds every write. */
export async function indexed(
  { client }: BenchServer,
  name: string,
): Promise<void> {
  for (;;) {
    const { gallery } = await client.GalleryService.GetGallery({
      gallery: name,
    });
    if (gallery?.indexedSequence === gallery?.sequence) return;
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

/** Rows of the report on search by one client while another enrols in bulk, against the same search alone. */
export async function besideRows(): Promise<BenchRow[]> {
  const data = await clusteredFeatures(BULK);
  return withServer(async (server) => {
    await makeGallery(server, "door", "hnsw");
    await clientRun(server, data, {
      gallery: "door",
      does: "bulk",
      count: HELD,
      callers: 4,
    });
    await indexed(server, "door");
    const search = (freshness?: "FRESHNESS_INDEXED") =>
      clientRun(server, data, {
        gallery: "door",
        does: "search",
        features: data.queries,
        count: 1e9,
        seconds: SEARCH_S,
        callers: 1,
        ...(freshness === undefined ? {} : { freshness }),
      });
    const idle: number[] = [];
    const beside: Record<"INDEXED" | "ACKNOWLEDGED", number[]> = {
      INDEXED: [],
      ACKNOWLEDGED: [],
    };
    let first = HELD;
    for (let round = 0; round < ROUNDS; round++) {
      await indexed(server, "door");
      idle.push(p99(await search()));
      for (const freshness of ["INDEXED", "ACKNOWLEDGED"] as const) {
        const enrolling = clientRun(server, data, {
          gallery: "door",
          does: "bulk",
          first,
          count: 1e9,
          seconds: SEARCH_S + 3,
          callers: 1,
        });
        beside[freshness].push(
          p99(
            await search(
              freshness === "INDEXED" ? "FRESHNESS_INDEXED" : undefined,
            ),
          ),
        );
        first += (await enrolling).count;
      }
    }
    const note = `HNSW over ${HELD} × ${DIMENSION} and growing, one caller of each, ${SEARCH_S} s; median of ${ROUNDS}`;
    return [
      {
        figure: "search p99, nothing else",
        value: median(idle),
        unit: "ms",
        note,
      },
      {
        figure: "search p99 beside bulk enrolment, INDEXED, ratio",
        value: median(beside.INDEXED) / median(idle),
        unit: "×",
        ...(isQuick ? {} : { bar: "≤ 2" as const }),
        against: "the same search alone",
        note,
      },
      {
        figure: "search p99 beside bulk enrolment, default freshness",
        value: median(beside.ACKNOWLEDGED),
        unit: "ms",
        note: `${note}; the tail is compared one by one`,
      },
    ];
  });
}

function p99({ callMs }: ClientTrial): number {
  return callMs.toSorted((a, b) => a - b)[Math.floor(callMs.length * 0.99)];
}
