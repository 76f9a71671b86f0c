// Search by the addon through Node against FAISS in C++ and in Python, hnswlib and usearch.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import {
  clusteredFeatures,
  recallOf,
  type BenchFeatures,
} from "./index-data.js";
import { GRAPH, graphFile } from "./index-libraries.js";
import type { SearchTrial, SearchTrialInput } from "./index-search-trial.js";
import { type BenchRow, isQuick, median } from "./report.js";
import { runTrial } from "./trial.js";

const run = promisify(execFile);

/** Each comparison is made so often, the sides in turns. */
const ROUNDS = isQuick ? 1 : 3;
const FLAT_ROWS = isQuick ? 20_000 : 100_000;
/** What python3-faiss links in three minutes; 50,000 take it ten, 100,000 half an hour. */
const GRAPH_ROWS = isQuick ? 5_000 : 20_000;
const ENOUGH = 0.99;
/** Of an index file, format 2 (docs/formats.md): before its ids, and behind them what FAISS writes. */
const HEADER_BYTES = 96;
const EFFORTS = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

type Times = Pick<SearchTrial, "oneMs" | "batchMs">;

/** Rows of the report on exact search and on graphs. */
export async function searchRows(): Promise<BenchRow[]> {
  await run("bench/peers/faiss/build.sh");
  await run("bench/peers/install-node.sh");
  await run("bench/peers/install-faiss.sh");
  const folder = await mkdtemp(join(tmpdir(), "reid-bench-"));
  try {
    return [...(await exactRows(folder)), ...(await graphRows(folder))];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function exactRows(folder: string): Promise<BenchRow[]> {
  const data = await clusteredFeatures(FLAT_ROWS);
  const own: SearchTrial[] = [];
  const plain: SearchTrial[] = [];
  const python: SearchTrial[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    own.push(await search(data, { library: "ours, flat" }));
    plain.push(
      await cpp("plain", "flat", [
        data.rows,
        data.queries,
        `${data.dimension}`,
      ]),
    );
    python.push(await pythonSearch("flat", data, folder));
  }
  const agree = recallOf(own[0].hits, plain[0].hits, 10);
  const note = `${data.note}, k = 10, recall 1, median of ${ROUNDS}`;
  return [
    ...timesOf("exact search, ours through Node", own, note),
    ...timesOf("exact search, FAISS in C++", plain, note),
    ratio(
      "exact search, one query",
      plain,
      own,
      "oneMs",
      "≥ 2",
      "FAISS in C++, as Debian builds it",
    ),
    ratio(
      "exact search, 64 queries",
      plain,
      own,
      "batchMs",
      "≥ 0.95",
      "FAISS in C++, as Debian builds it",
    ),
    ratio(
      "exact search, one query",
      python,
      own,
      "oneMs",
      "> 1",
      "python3-faiss",
    ),
    ratio(
      "exact search, 64 queries",
      python,
      own,
      "batchMs",
      "> 1",
      "python3-faiss",
    ),
    {
      figure: "exact search, hits that FAISS has too",
      value: agree,
      unit: "share",
      bar: "≥ 0.999",
      note: "near ties differ by the order of addition",
    },
  ];
}

async function graphRows(folder: string): Promise<BenchRow[]> {
  const data = await clusteredFeatures(GRAPH_ROWS);
  const { hits: truth } = await search(data, { library: "ours, flat" });
  const wanted = { truth, efforts: EFFORTS, recall: ENOUGH };
  const found: Record<string, SearchTrial[]> = {};
  const add = (name: string, trial: SearchTrial): void => {
    (found[name] ??= []).push(trial);
  };
  for (let round = 0; round < ROUNDS; round++) {
    const library = "ours, HNSW";
    add("ours", await search(data, { library, ...wanted }));
    const file = graphFile(data.rows, library);
    const effort = String(found["ours"][0].effort);
    const header = String(HEADER_BYTES + 8 * GRAPH_ROWS);
    const where = [file, header, data.queries, `${data.dimension}`, effort];
    add("the same graph in C++", await cpp("kernels", "graph", where));
    add(
      "the same graph in C++, library's loops",
      await cpp("plain", "graph", where),
    );
    add(
      "hnswlib-node",
      await search(data, { library: "hnswlib-node", ...wanted }),
    );
    add("usearch", await search(data, { library: "usearch", ...wanted }));
    add("python3-faiss", await pythonSearch("graph", data, folder, truth));
  }
  const { ours, ...peers } = found;
  return [
    ...timesOf("HNSW search, ours through Node", ours, noteOf(data, ours)),
    ...Object.entries(peers).flatMap(([name, trials]) => {
      const isSame = name.startsWith("the same");
      const bar = isSame ? "≥ 0.95" : "> 1";
      return [
        ratio(
          "HNSW search, one query",
          trials,
          ours,
          "oneMs",
          bar,
          name,
          noteOf(data, trials),
        ),
        ratio(
          "HNSW search, 64 queries",
          trials,
          ours,
          "batchMs",
          bar,
          name,
          noteOf(data, trials),
        ),
      ];
    }),
  ];
}

function noteOf(
  data: BenchFeatures,
  [{ effort, recall }]: readonly SearchTrial[],
): string {
  const at = recall > 0 ? `, recall@10 ${recall.toFixed(3)}` : "";
  return `${data.note}, m ${GRAPH.m}, efSearch ${effort}${at}, median of ${ROUNDS}`;
}

function search(
  { rows, queries, dimension }: BenchFeatures,
  input: Pick<SearchTrialInput, "library"> & Partial<SearchTrialInput>,
): Promise<SearchTrial> {
  return runTrial<SearchTrial>("index-search-trial.js", {
    ...input,
    rows,
    queries,
    dimension,
  });
}

async function cpp(
  build: "plain" | "kernels",
  question: string,
  of: readonly string[],
): Promise<SearchTrial> {
  const { stdout } = await run(
    join("out", "peers", "faiss", build),
    [question, ...of],
    { maxBuffer: 1 << 26 },
  );
  return {
    effort: Number(of[4] ?? 0),
    recall: 0,
    openS: 0,
    ...(JSON.parse(stdout) as object),
  } as SearchTrial;
}

async function pythonSearch(
  kind: "flat" | "graph",
  data: BenchFeatures,
  folder: string,
  truth?: readonly number[],
): Promise<SearchTrial> {
  let truthPath = "";
  if (truth !== undefined) {
    truthPath = join(folder, "truth.json");
    await writeFile(truthPath, JSON.stringify(truth));
  }
  const graph = graphFile(data.rows, "python3-faiss");
  const { stdout } = await run(
    "/usr/bin/python3",
    [
      "bench/peers/faiss/search.py",
      kind,
      data.rows,
      data.queries,
      `${data.dimension}`,
      truthPath,
      graph,
      `${GRAPH.m}`,
      `${GRAPH.efConstruction}`,
    ],
    { maxBuffer: 1 << 26 },
  );
  return JSON.parse(stdout) as SearchTrial;
}

function timesOf(
  figure: string,
  trials: readonly Times[],
  note: string,
): BenchRow[] {
  return [
    {
      figure: `${figure}, one query`,
      value: median(trials.map(({ oneMs }) => oneMs)),
      unit: "ms",
      note,
    },
    {
      figure: `${figure}, 64 queries`,
      value: median(trials.map(({ batchMs }) => batchMs)),
      unit: "ms",
      note,
    },
  ];
}

/** How many times faster ours is: the peer's time over ours, the median of each. */
function ratio(
  figure: string,
  peer: readonly Times[],
  ours: readonly Times[],
  time: keyof Times,
  bar: NonNullable<BenchRow["bar"]>,
  against: string,
  note = "",
): BenchRow {
  const value =
    median(peer.map((trial) => trial[time])) /
    median(ours.map((trial) => trial[time]));
  return {
    figure: `${figure}, ratio`,
    value,
    unit: "×",
    against,
    note,
    ...(isQuick ? {} : { bar }),
  };
}
