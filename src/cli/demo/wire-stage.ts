import { readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { partitionAgreement } from "#memory/agreement";
import { type Client, connect } from "../client.js";
import { labelledCrops } from "../connection.js";
import { enrollCrops } from "../enrolling.js";
import { pagesOf } from "../pages.js";
import { reclusterMemory } from "../recluster.js";
import {
  evaluateHits,
  type LabelledCrop,
  searchCrops,
  type WireEvaluation,
  type WireHits,
} from "../retrieval.js";
import { startServerProcess } from "./server-process.js";
import type {
  DemoContext,
  DemoDomains,
  DemoTraining,
} from "./training-stage.js";

/** What the online memory made of the target's training crops. */
export interface OnlineFigures {
  /** Rows of the memory. */
  readonly instances: number;
  /** Clusters of two rows or more. */
  readonly clusters: number;
  readonly outliers: number;
  /** True identities among the crops. */
  readonly identities: number;
  /** Adjusted Rand index of clusters against identities; an outlier is a cluster of one. 1 is best. */
  readonly ari: number;
  readonly pairPrecision: number;
  readonly pairRecall: number;
}

/** What was measured through a real server. */
export interface DemoWire {
  readonly retrieval: WireEvaluation;
  readonly answers: readonly WireHits[];
  readonly enrolled: number;
  readonly online: OnlineFigures;
}

const gallery = "target";
const connectMs = 20_000;
const cropsACall = 64;
const rowsAPage = 1000;

/** Starts a server, enrolls the target's gallery, searches every query, streams the training crops, and removes the server. */
export async function serveAndSearch(
  demo: DemoContext,
  { target }: DemoDomains,
  { models }: DemoTraining,
): Promise<DemoWire> {
  const { signal } = demo.command;
  const data = join(demo.folder, "server");
  const server = await startServerProcess({ models, data, signal });
  const client = connect(server.address);
  try {
    await client.ready(connectMs);
    const { enrolled, answers } = await searchGallery(demo, client, target);
    const online = await streamTraffic(demo, client, target);
    return { retrieval: evaluateHits(answers), answers, enrolled, online };
  } finally {
    client.close();
    await server.stop();
    await rm(data, { recursive: true, force: true });
  }
}

async function searchGallery(
  { command: { out, signal } }: DemoContext,
  client: Client,
  target: string,
): Promise<{ enrolled: number; answers: readonly WireHits[] }> {
  const [entries, queries] = await Promise.all([
    labelledCrops(target, "gallery"),
    labelledCrops(target, "query"),
  ]);
  await client.GalleryService.CreateGallery({
    gallery: { name: gallery, index: { flat: {} } },
  });
  const progress = out.progress(
    "enrolling and searching",
    entries.length + queries.length,
  );
  const report = await enrollCrops(client, gallery, entries, {
    signal,
    onProgress: (done) => progress.update(done),
  });
  const answers = await searchCrops(
    client,
    { gallery, k: entries.length },
    queries,
    {
      signal,
      sameCamera: "removed",
      onProgress: (done) => progress.update(entries.length + done),
    },
  );
  progress.end();
  const failed = answers.find(({ error }) => error !== undefined);
  if (failed?.error !== undefined) throw failed.error;
  return { enrolled: report.enrolled, answers };
}

async function streamTraffic(
  { command: { out, signal } }: DemoContext,
  client: Client,
  target: string,
): Promise<OnlineFigures> {
  const crops = await labelledCrops(target, "train");
  const progress = out.progress("streaming", crops.length);
  for (let start = 0; start < crops.length; start += cropsACall) {
    await embedObserved(client, crops.slice(start, start + cropsACall), signal);
    progress.update(Math.min(crops.length, start + cropsACall));
  }
  progress.end();
  const { clusters, outliers } = await reclusterMemory(client, {
    memory: "",
    signal,
  });
  return { clusters, outliers, ...(await compareRows(client, crops, signal)) };
}

async function embedObserved(
  client: Client,
  crops: readonly LabelledCrop[],
  signal: AbortSignal,
): Promise<void> {
  await client.EmbedService.Embed(
    {
      observe: "OBSERVE_YES",
      crops: await Promise.all(
        crops.map(async ({ path, cameraId }) => ({
          encoded: await readFile(path),
          cropId: basename(path),
          cameraId,
        })),
      ),
    },
    { signal },
  );
}

/** The memory's rows, by the name of the crop, against the identities the crops really have. */
async function compareRows(
  client: Client,
  crops: readonly LabelledCrop[],
  signal: AbortSignal,
): Promise<Omit<OnlineFigures, "clusters" | "outliers">> {
  const identities = new Map(
    crops.map(({ path, identity }) => [basename(path), Number(identity)]),
  );
  const clusterIds: number[] = [];
  const truth: number[] = [];
  const pages = pagesOf((pageToken) =>
    client.MemoryService.ListClusterRows(
      { pageSize: rowsAPage, pageToken },
      { signal },
    ),
  );
  for await (const { rows } of pages)
    for (const { cropId, clusterId } of rows) {
      clusterIds.push(clusterId);
      truth.push(identities.get(cropId) ?? -1);
    }
  const { ari, pairPrecision, pairRecall } = partitionAgreement(
    clusterIds,
    truth,
  );
  return {
    instances: clusterIds.length,
    identities: new Set(identities.values()).size,
    ari,
    pairPrecision,
    pairRecall,
  };
}
