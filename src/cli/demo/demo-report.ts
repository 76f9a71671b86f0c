import { join } from "node:path";
import { writeAtomically } from "#core/files";
import { type EmbeddedDataSet, embedDataSet } from "#train/bundle-evaluation";
import { readMetrics } from "#train/metrics-log";
import {
  contactSheetFigure,
  featureMap,
  featureScatter,
  htmlTable,
  type RankedList,
  reportPage,
  type RetrievalExample,
  retrievalStrips,
  runCharts,
} from "#train/report";
import { sheetCrops } from "#train/synth";
import type { DemoSummary } from "./summary.js";
import { percent, storyRows } from "./summary.js";
import type {
  DemoContext,
  DemoDomains,
  DemoTraining,
} from "./training-stage.js";

const hitsShown = 10;
const queriesShown = 6;
const sheetRows = 6;
const sheetColumns = 12;
/** t-SNE costs the square of it. */
const mappedCrops = 320;

/**
 * Writes the demonstration's report.html: figures, curves, retrieval before and after, contact sheets, maps.
 *
 * @returns the file's path
 */
export async function writeDemoReport(
  demo: DemoContext,
  domains: DemoDomains,
  training: DemoTraining,
  summary: DemoSummary,
): Promise<string> {
  const embed = (model: string) =>
    embedDataSet(
      { model, data: domains.target, format: "market1501" },
      ["query", "gallery"],
      { engine: demo.engine, signal: demo.command.signal },
    );
  const before = await embed(training.baseline.bundle);
  const after = await embed(training.adapted.bundle);
  const { target, online, wire } = summary;
  const html = reportPage({
    title: "spcl-reid: one turn of the circle",
    lede:
      "Two rendered domains. An encoder trained on the labelled source alone, and one adapted to the unlabelled target " +
      "by self-paced contrastive learning from the same start with the same number of iterations; then a real server, " +
      "a gallery, every query over gRPC, and an online memory fed with the target's crops.",
    highlights: [
      {
        label: "target mAP, adapted",
        value: percent(target.adapted.mAP),
        note: `source-only ${percent(target.baseline.mAP)}`,
      },
      {
        label: "with target statistics only",
        value: percent(target.baselineTargetStatistics.mAP),
      },
      {
        label: "mAP over gRPC",
        value: percent(wire.mAP),
        note: `${wire.queries} queries`,
      },
      {
        label: "online clusters",
        value: String(online.clusters),
        note: `${online.identities} identities, ARI ${online.ari.toFixed(2)}`,
      },
    ],
    sections: [
      {
        heading: "Figures",
        body: htmlTable(
          ["encoder", "target mAP", "target rank-1", "source mAP"],
          storyRows(summary),
        ),
      },
      {
        heading: "Retrieval before and after",
        lede: "The queries on which the adaptation changed most, for better or worse. Green frames: the query's identity.",
        body: await retrievalStrips(retrievalExamples(before, after)),
      },
      {
        heading: "Adaptation",
        body: runCharts(await readMetrics(training.adapted.folder)),
      },
      {
        heading: "Source-only",
        body: runCharts(await readMetrics(training.baseline.folder)),
      },
      {
        heading: "Features of the target's gallery",
        lede: "Colour is the identity, shape the camera. Before: cameras; after: people.",
        body: `<div class="figures">${scatter("source-only", before, demo.seed)}${scatter("adapted", after, demo.seed)}</div>`,
      },
      {
        heading: "The two domains",
        lede: "One identity a row.",
        body: `<div class="figures">${await sheet("source", domains.source)}${await sheet("target", domains.target)}</div>`,
      },
    ],
  });
  const file = join(demo.folder, "report.html");
  await writeAtomically(file, html);
  return file;
}

async function sheet(caption: string, folder: string): Promise<string> {
  const crops = await sheetCrops(folder, sheetRows, sheetColumns);
  return contactSheetFigure(crops, caption, { columns: sheetColumns });
}

function scatter(
  title: string,
  { gallery, bundle }: EmbeddedDataSet,
  seed: number,
): string {
  const { dimension } = bundle.manifest;
  const count = Math.min(mappedCrops, gallery.crops.length);
  return featureScatter({
    title,
    positions: featureMap(
      gallery.features.subarray(0, count * dimension),
      dimension,
      { seed },
    ),
    identities: gallery.crops.slice(0, count).map(({ identity }) => identity),
    cameras: gallery.crops.slice(0, count).map(({ cameraId }) => cameraId),
  });
}

/** The queries whose number of matches among the first hits changed most; ties in query order. */
function retrievalExamples(
  before: EmbeddedDataSet,
  after: EmbeddedDataSet,
): RetrievalExample[] {
  const changes = before.query.crops.map((crop, i) => {
    const lists = [
      rankedList("source-only", before, i),
      rankedList("adapted", after, i),
    ];
    const [was, is] = lists.map(
      ({ hits }) => hits.filter(({ isMatch }) => isMatch).length,
    );
    return { query: crop.path, lists, change: Math.abs(is - was) };
  });
  return changes.sort((a, b) => b.change - a.change).slice(0, queriesShown);
}

function rankedList(
  name: string,
  { query, gallery, bundle }: EmbeddedDataSet,
  at: number,
): RankedList {
  const { dimension } = bundle.manifest;
  const { identity, cameraId } = query.crops[at];
  const feature = query.features.subarray(at * dimension, (at + 1) * dimension);
  const hits = gallery.crops
    .map((crop, i) => ({ crop, i }))
    .filter(
      ({ crop }) => crop.identity !== identity || crop.cameraId !== cameraId,
    )
    .map(({ crop, i }) => {
      let similarity = 0;
      for (let d = 0; d < dimension; d++)
        similarity += feature[d] * gallery.features[i * dimension + d];
      return {
        path: crop.path,
        isMatch: crop.identity === identity,
        similarity,
      };
    })
    .sort((a, b) => b.similarity - a.similarity)
    .slice(0, hitsShown);
  return { name, hits };
}
