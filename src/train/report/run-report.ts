import { join } from "node:path";
import { writeAtomically } from "#core/files";
import {
  readMetrics,
  type EpochRecord,
  type IterationRecord,
  type MetricsRecord,
} from "../metrics-log.js";
import { htmlTable, reportPage, type ReportSection } from "./html.js";
import { lineChart, type ChartSeries, type LineChart } from "./line-chart.js";
import { retrievalStrips, type RetrievalExample } from "./pictures.js";

/** What a run's report shows beside its curves. */
export interface RunReportOptions {
  /** The run's folder: metrics.jsonl is read from it, report.html written to it. */
  readonly folder: string;
  /** What the run was called with or chose, by name, for a table. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  readonly examples?: readonly RetrievalExample[];
}

/**
 * Writes report.html into a run's folder.
 *
 * @returns the file's path
 */
export async function writeRunReport(
  options: RunReportOptions,
): Promise<string> {
  const records = await readMetrics(options.folder);
  const sections: ReportSection[] = [
    { heading: "Over the run", body: runCharts(records) },
  ];
  if (options.examples !== undefined && options.examples.length > 0)
    sections.push({
      heading: "Retrieval",
      lede: "A query and its nearest hits. Green frames: the same identity; red: another one. Numbers are similarities.",
      body: await retrievalStrips(options.examples),
    });
  sections.push({ heading: "Epochs", body: epochTable(epochsOf(records)) });
  if (options.settings !== undefined)
    sections.push({
      heading: "Settings",
      body: htmlTable(
        ["setting", "value"],
        Object.entries(options.settings).map(([name, value]) => [
          name,
          String(value),
        ]),
      ),
    });
  const file = join(options.folder, "report.html");
  await writeAtomically(
    file,
    reportPage({
      title: "Training run",
      lede: summaryOf(epochsOf(records)),
      highlights: highlightsOf(epochsOf(records)),
      sections,
    }),
  );
  return file;
}

/** The curves of a run as HTML: loss, clusters and outliers, quality, thresholds, mAP against epoch. */
export function runCharts(records: readonly MetricsRecord[]): string {
  const epochs = epochsOf(records);
  const clustered = epochs.filter(({ clustering }) => clustering !== undefined);
  const warmup = epochs.filter(({ phase }) => phase === "warmup").length;
  const marks =
    warmup > 0 && warmup < epochs.length
      ? [{ x: warmup, text: "end of warm-up" }]
      : [];
  const curve = (
    name: string,
    value: (epoch: EpochRecord) => number | null | undefined,
    of = clustered,
  ): ChartSeries => ({
    name,
    points: of.map((epoch) => ({ x: epoch.epoch, y: value(epoch) ?? null })),
  });
  const charts: LineChart[] = [
    {
      title: "Loss",
      xLabel: "epoch",
      yMinimum: 0,
      marks,
      series: lossSeries(records),
    },
    {
      title: "Clusters and outliers",
      xLabel: "epoch",
      yMinimum: 0,
      series: [
        curve("clusters", ({ clustering }) => clustering?.clusters),
        curve("outliers", ({ clustering }) => clustering?.outliers),
        curve(
          "largest cluster",
          ({ clustering }) => clustering?.largestCluster,
        ),
      ],
    },
    {
      title: "Clusters against the true identities",
      xLabel: "epoch",
      yMinimum: 0,
      yMaximum: 1,
      series: [
        curve("ARI", ({ clustering }) => clustering?.ari),
        curve("NMI", ({ clustering }) => clustering?.nmi),
        curve("pair precision", ({ clustering }) => clustering?.pairPrecision),
        curve("pair recall", ({ clustering }) => clustering?.pairRecall),
      ],
      caption:
        "Only for the reader: training never sees the target's identities.",
    },
    {
      title: "Independence a cluster must reach",
      xLabel: "epoch",
      yMinimum: 0,
      yMaximum: 1,
      series: [
        curve("independence threshold", ({ clustering }) =>
          typeof clustering?.independenceThreshold === "number"
            ? 1 - clustering.independenceThreshold
            : null,
        ),
      ],
      caption:
        "1 is best: the share of a cluster that stays when the radius is widened.",
    },
    {
      title: "Radius of the clustering",
      xLabel: "epoch",
      yMinimum: 0.3,
      yMaximum: 0.8,
      series: [curve("eps", ({ clustering }) => clustering?.eps)],
      caption: "DBSCAN's eps, a Jaccard distance.",
    },
    {
      title: "mAP on the validation set",
      xLabel: "epoch",
      yMinimum: 0,
      series: [
        curve("mAP", ({ mAP }) => mAP, epochs),
        curve("rank-1", ({ rank1 }) => rank1, epochs),
      ],
    },
  ];
  // A curve with one point, or none, says nothing that the table does not.
  const drawn = charts.map((chart) => ({
    ...chart,
    series: chart.series.filter(
      ({ points }) => points.filter(({ y }) => y !== null).length > 1,
    ),
  }));
  return `<div class="figures">${drawn.map(lineChart).join("")}</div>`;
}

function epochsOf(records: readonly MetricsRecord[]): EpochRecord[] {
  return records.filter(
    (record): record is EpochRecord => record.kind === "epoch",
  );
}

/** At most about 300 points a curve; each is the mean of the iterations it stands for. */
function lossSeries(records: readonly MetricsRecord[]): ChartSeries[] {
  const iterations = records.filter(
    (record): record is IterationRecord => record.kind === "iteration",
  );
  const perEpoch = iterations.reduce(
    (most, { iteration }) => Math.max(most, iteration),
    1,
  );
  const stride = Math.max(1, Math.ceil(iterations.length / 300));
  const series = (
    name: string,
    value: (record: IterationRecord) => number | undefined,
  ): ChartSeries => ({
    name,
    points: Array.from(
      { length: Math.ceil(iterations.length / stride) },
      (_, i) => {
        const part = iterations.slice(i * stride, (i + 1) * stride);
        const values = part.flatMap((record) => value(record) ?? []);
        const last = part[part.length - 1];
        return {
          x: last.epoch - 1 + last.iteration / perEpoch,
          y:
            values.length === 0
              ? null
              : values.reduce((a, b) => a + b, 0) / values.length,
        };
      },
    ),
  });
  const source = series("source", ({ sourceLoss }) => sourceLoss);
  const target = series("target", ({ targetLoss }) => targetLoss);
  const hasBoth = [source, target].every(({ points }) =>
    points.some(({ y }) => y !== null),
  );
  return hasBoth ? [source, target] : [series("loss", ({ loss }) => loss)];
}

function epochTable(epochs: readonly EpochRecord[]): string {
  const fixed = (value: number | null | undefined, digits: number) =>
    typeof value === "number" ? value.toFixed(digits) : "–";
  return htmlTable(
    [
      "epoch",
      "phase",
      "loss",
      "k1",
      "eps",
      "clusters",
      "outliers",
      "largest",
      "ARI",
      "mAP",
      "seconds",
    ],
    epochs.map(({ epoch, phase, meanLoss, clustering, mAP, seconds }) => [
      epoch,
      phase,
      fixed(meanLoss, 3),
      clustering?.k1 ?? "–",
      fixed(clustering?.eps, 2),
      clustering?.clusters ?? "–",
      clustering?.outliers ?? "–",
      clustering?.largestCluster ?? "–",
      fixed(clustering?.ari, 3),
      mAP === undefined ? "–" : (100 * mAP).toFixed(1),
      fixed(seconds, 1),
    ]),
  );
}

function summaryOf(epochs: readonly EpochRecord[]): string {
  const iterations = epochs.reduce((sum, epoch) => sum + epoch.iterations, 0);
  const seconds = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0);
  return `${epochs.length} epochs, ${iterations} iterations, ${Math.round(seconds)} seconds.`;
}

function highlightsOf(
  epochs: readonly EpochRecord[],
): { label: string; value: string; note?: string }[] {
  const last = epochs.at(-1);
  if (last === undefined) return [];
  const { clustering } = last;
  return [
    ...(last.meanLoss === null
      ? []
      : [{ label: "Loss, last epoch", value: last.meanLoss.toFixed(2) }]),
    ...(clustering === undefined
      ? []
      : [
          {
            label: "Clusters",
            value: String(clustering.clusters),
            note: `${clustering.outliers} outliers`,
          },
        ]),
    ...(clustering?.ari === undefined
      ? []
      : [
          {
            label: "ARI",
            value: clustering.ari.toFixed(2),
            note: "against the true identities",
          },
        ]),
    ...(last.mAP === undefined
      ? []
      : [{ label: "mAP", value: `${(100 * last.mAP).toFixed(1)} %` }]),
  ];
}
