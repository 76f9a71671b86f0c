// From how many entries on HNSW answers sooner than the exact scan, by the length of the features.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { parseConfig } from "#core/config";

import { drawChart, type ChartLine, type ChartPanel } from "./chart.js";
import type {
  CrossoverInput,
  CrossoverPoint,
} from "./index-crossover-trial.js";
import { ROWS_OF_IDENTITY } from "./index-data.js";
import { type BenchRow, benchSeed, isQuick } from "./report.js";
import { runTrial } from "./trial.js";

const SIZES = [500, 1000, 2000, 5000, 10_000, 20_000, 50_000];

/** Entries at most, by D: a graph over 50,000 features of 2048 numbers takes minutes to build. */
const MOST: Readonly<Record<number, number>> = isQuick
  ? { 128: 2000, 512: 2000 }
  : { 128: 50_000, 512: 50_000, 2048: 20_000 };

type Kind = "flat" | "hnsw";
type Time = "oneMs" | "batchMs";

const timeNames: Readonly<Record<Time, string>> = {
  oneMs: "one query after another",
  batchMs: "64 queries at once",
};

const lineNames: Readonly<
  Record<Kind, Readonly<Record<Time, readonly [name: string, colour: string]>>>
> = {
  flat: {
    oneMs: ["flat", "#1f5fa8"],
    batchMs: ["flat, of 64 at once", "#9cc0e6"],
  },
  hnsw: {
    oneMs: ["HNSW", "#c8501e"],
    batchMs: ["HNSW, of 64 at once", "#f0b79c"],
  },
};

/** Rows of the report; the points of the lines and their picture lie beside it. */
export async function crossoverRows(): Promise<BenchRow[]> {
  const { flatBelow } = parseConfig({}).index;
  const rows: BenchRow[] = [];
  const panels: ChartPanel[] = [];
  const measured: Record<string, readonly CrossoverPoint[]> = {};
  for (const [dimension, most] of Object.entries(MOST).map(
    ([length, entries]) => [Number(length), entries] as const,
  )) {
    const sizes = SIZES.filter((entries) => entries <= most);
    const input: CrossoverInput = { dimension, sizes, seed: benchSeed };
    const points = await runTrial<CrossoverPoint[]>(
      "index-crossover-trial.js",
      input,
    );
    measured[dimension] = points;
    rows.push(...rowsOf(dimension, points, flatBelow));
    panels.push({
      title: `D = ${dimension}`,
      lines: (["flat", "hnsw"] as const).flatMap((kind) =>
        (["oneMs", "batchMs"] as const).map((time) =>
          lineOf(points, kind, time),
        ),
      ),
      meeting: crossing(points, "oneMs"),
    });
  }
  const folder = join("out", "bench");
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, "index-crossover-points.json"),
    `${JSON.stringify(measured, null, 2)}\n`,
  );
  await drawChart(join(folder, "index-crossover.png"), {
    title: "A search for 10 hits: the exact scan and HNSW, by entries",
    xName: "entries",
    yName: "ms a query",
    panels,
    mark: { x: flatBelow, name: "index.flat_below" },
  });
  return rows;
}

function lineOf(
  points: readonly CrossoverPoint[],
  kind: Kind,
  time: Time,
): ChartLine {
  const [name, colour] = lineNames[kind][time];
  return {
    ...{ name, colour },
    points: points.map((point) => [point.entries, point[kind][time]]),
  };
}

function rowsOf(
  dimension: number,
  points: readonly CrossoverPoint[],
  flatBelow: number,
): BenchRow[] {
  const last = points[points.length - 1];
  const name = `D = ${dimension}`;
  const data = `${last.entries / ROWS_OF_IDENTITY} Gaussian identities, k = 10`;
  const at = points.findLast(({ entries }) => entries <= flatBelow) ?? last;
  return [
    ...(["oneMs", "batchMs"] as const).flatMap((time): BenchRow[] => {
      const entries = crossing(points, time);
      if (entries === undefined) return [];
      const figure = `${name}, HNSW is faster from, ${timeNames[time]}`;
      return [{ figure, value: entries, unit: "entries", note: data }];
    }),
    {
      figure: `${name}, flat, one query`,
      value: at.flat.oneMs,
      unit: "ms",
      note: `${at.entries} entries, recall 1`,
    },
    {
      figure: `${name}, HNSW, one query`,
      value: at.hnsw.oneMs,
      unit: "ms",
      note: `${at.entries} entries, recall@10 ${at.recall.toFixed(3)}`,
    },
    {
      figure: `${name}, HNSW, to build`,
      value: at.buildS,
      unit: "s",
      note: `${at.entries} entries`,
    },
    {
      figure: `${name}, HNSW, memory above flat`,
      value: at.hnsw.bytesPerEntry - at.flat.bytesPerEntry,
      unit: "bytes/entry",
      note: `a feature has ${4 * dimension}`,
    },
  ];
}

/** Where HNSW begins to be faster, between the sizes measured; undefined: it is not, or from the first on. */
function crossing(
  points: readonly CrossoverPoint[],
  time: Time,
): number | undefined {
  const gains = points.map(({ flat, hnsw }) =>
    Math.log(flat[time] / hnsw[time]),
  );
  const after = gains.findIndex((gain) => gain > 0);
  if (after <= 0) return undefined;
  const share = -gains[after - 1] / (gains[after] - gains[after - 1]);
  const [from, to] = [points[after - 1].entries, points[after].entries];
  return from * (to / from) ** share;
}
