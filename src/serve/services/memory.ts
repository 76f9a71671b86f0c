import type { RequestLog } from "#index/request-log";
import { FieldInvalidError } from "../errors.js";
import { featureToWire, MAX_VALUES_FEATURES } from "../features.js";
import { countFrom, numberIn, requireName, timestamp } from "../fields.js";
import type { Cluster } from "../generated/reid/v1/Cluster.js";
import type { ListClusterRowsRequest__Output } from "../generated/reid/v1/ListClusterRowsRequest.js";
import type { ListClusterRowsResponse } from "../generated/reid/v1/ListClusterRowsResponse.js";
import type { ListClustersRequest__Output } from "../generated/reid/v1/ListClustersRequest.js";
import type { ListClustersResponse } from "../generated/reid/v1/ListClustersResponse.js";
import type { Memory } from "../generated/reid/v1/Memory.js";
import type { MemoryServiceHandlers } from "../generated/reid/v1/MemoryService.js";
import type { ReclusterRequest__Output } from "../generated/reid/v1/ReclusterRequest.js";
import type { ReclusterResponse } from "../generated/reid/v1/ReclusterResponse.js";
import type { MemoryCluster } from "../online-clusters.js";
import { MemoryOffError } from "../online-errors.js";
import type { MemoryFacts } from "../online-memory-types.js";
import type { OnlineMemory } from "../online-memory.js";
import { encodingFrom } from "../requests.js";
import { failureFrom } from "../status.js";
import { rejectStream, rejectUnary, unary } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { identified } from "./open-gallery.js";
import { operationToWire } from "./operation.js";

const states: Readonly<
  Record<
    MemoryFacts["state"],
    | "MEMORY_STATE_LEARNING"
    | "MEMORY_STATE_CLUSTERING"
    | "MEMORY_STATE_DEGRADED"
  >
> = {
  learning: "MEMORY_STATE_LEARNING",
  clustering: "MEMORY_STATE_CLUSTERING",
  degraded: "MEMORY_STATE_DEGRADED",
};

/** Cameras that a cluster lists. */
const LISTED_CAMERAS = 32;
const DEFAULT_MIN_SIZE = 2;

/** Handlers of MemoryService. */
export function memoryService(context: ServiceContext): MemoryServiceHandlers {
  return {
    GetMemory: unary(context, "MemoryService/GetMemory", (request) => ({
      memory: memoryToWire(
        context,
        openMemory(context, request.memory).facts(),
      ),
    })),
    ListClusters: unary(context, "MemoryService/ListClusters", (request) =>
      listClusters(context, request),
    ),
    ListClusterRows: unary(
      context,
      "MemoryService/ListClusterRows",
      (request) => listClusterRows(context, request),
    ),
    Recluster: unary(context, "MemoryService/Recluster", (request) =>
      recluster(context, request, context.requests),
    ),
    Assign: rejectUnary(context, "MemoryService/Assign"),
    PauseMemory: rejectUnary(context, "MemoryService/PauseMemory"),
    ResumeMemory: rejectUnary(context, "MemoryService/ResumeMemory"),
    ExportMemory: rejectStream(context, "MemoryService/ExportMemory"),
    DeleteMemoryRows: rejectUnary(context, "MemoryService/DeleteMemoryRows"),
  };
}

/** @throws {FieldInvalidError} @throws {MemoryOffError} @throws {MemoryNotFoundError} */
function openMemory(context: ServiceContext, name: string): OnlineMemory {
  if (name !== "") requireName(name, "memory");
  if (context.online === undefined) throw new MemoryOffError();
  return context.online.get(name);
}

function listClusters(
  context: ServiceContext,
  request: ListClustersRequest__Output,
): ListClustersResponse {
  const { limits } = context.config;
  const minSize = request.minSize === 0 ? DEFAULT_MIN_SIZE : request.minSize;
  const encoding = encodingFrom(request.encoding);
  const most = encoding === "values" ? MAX_VALUES_FEATURES : limits.largeHits;
  const bound = ["clusters", request.memory, minSize, encoding];
  const page = context.pages.read(request, bound, most);
  const memory = openMemory(context, request.memory);
  // The cursor is the clustering and the cluster: an earlier clustering goes on where it was, or is gone.
  const [number, ...cluster] = (page.after ?? "").split(":");
  const { clustering, clusters } = memory.clusters(
    minSize,
    page.after === undefined ? undefined : countFrom(number, "page_token"),
  );
  const { items, next } = context.pages.slice(
    clusters,
    {
      size: page.size,
      after: page.after === undefined ? undefined : cluster.join(":"),
    },
    {
      keyOf: ({ size, clusterId }) => `${size}:${clusterId}`,
      compare: (one, key) => {
        const [size, clusterId] = key.split(":").map(Number);
        return one.size === size ? one.clusterId - clusterId : size - one.size;
      },
    },
  );
  return {
    clusters: items.map((one) => clusterToWire(one, memory, encoding)),
    nextPageToken: context.pages.token(
      next === undefined ? undefined : `${clustering}:${next}`,
      bound,
    ),
    clustering: String(clustering),
  };
}

function clusterToWire(
  cluster: MemoryCluster,
  memory: OnlineMemory,
  encoding: "f32le" | "f16le" | "values",
): Cluster {
  return {
    clusterId: cluster.clusterId,
    pseudoIdentity: cluster.pseudoIdentity,
    size: cluster.size,
    cameraIds: cluster.cameraIds.slice(0, LISTED_CAMERAS),
    rComp: cluster.rComp,
    rIndep: cluster.rIndep,
    captured: {
      start: timestamp(cluster.capturedFromMs * 1000),
      end: timestamp(cluster.capturedToMs * 1000 + 1),
    },
    prototype: featureToWire(cluster.prototype, memory.model, encoding),
  };
}

function listClusterRows(
  context: ServiceContext,
  request: ListClusterRowsRequest__Output,
): ListClusterRowsResponse {
  const { clusterId } = request;
  const wanted = countFrom(request.clustering, "clustering");
  if (clusterId !== undefined && clusterId < -1)
    throw new FieldInvalidError("cluster_id", clusterId, "-1 or more");
  const bound = ["rows", request.memory, wanted, clusterId ?? null];
  const page = context.pages.read(
    request,
    bound,
    context.config.limits.pageSize,
  );
  const memory = openMemory(context, request.memory);
  const [number, row] = (page.after ?? "").split(":");
  const isFirst = page.after === undefined;
  const { clustering, rows } = memory.rows({
    clustering: isFirst
      ? wanted === 0
        ? undefined
        : wanted
      : countFrom(number, "page_token"),
    clusterId,
    afterRow: isFirst ? undefined : countFrom(row, "page_token"),
    limit: page.size + 1,
  });
  const shown = rows.slice(0, page.size);
  const last = shown.at(-1);
  const next =
    rows.length > page.size && last !== undefined
      ? `${clustering}:${last.row}`
      : undefined;
  return {
    rows: shown.map((one) => ({
      row: one.row,
      cropId: one.cropId,
      cameraId: one.cameraId,
      capturedAt: timestamp(one.capturedAtMs * 1000),
      trackId: one.trackId,
      clusterId: one.clusterId,
      pseudoLabel: one.pseudoLabel,
      pseudoIdentity: one.pseudoIdentity,
    })),
    nextPageToken: context.pages.token(next, bound),
  };
}

async function recluster(
  context: ServiceContext,
  request: ReclusterRequest__Output,
  requests: RequestLog,
): Promise<ReclusterResponse> {
  const { Recluster } = serviceDefinition("MemoryService");
  const { eps } = request;
  if (eps !== undefined)
    numberIn(eps, "eps", { minimum: Number.MIN_VALUE, maximum: 1 });
  const id = identified(request, Recluster);
  const memory = openMemory(context, request.memory);
  const bytes = await requests.once(id, async (keep) => {
    const operation = await memory.recluster(eps);
    const response = Recluster.responseSerialize({
      operation: operationToWire(context, operation),
    });
    // The operation is durable by itself; the answer follows it in a transaction of its own.
    if (id !== undefined)
      await requests.write((writer) => keep(writer, response));
    return response;
  });
  return Recluster.responseDeserialize(Buffer.from(bytes));
}

function memoryToWire(context: ServiceContext, facts: MemoryFacts): Memory {
  return {
    name: facts.name,
    model: { name: facts.model.name, version: facts.model.version },
    state: states[facts.state],
    rowCount: facts.rowCount,
    maxRows: facts.maxRows,
    clusterCount: facts.clusterCount,
    outlierCount: facts.outlierCount,
    clustering: String(facts.clustering),
    clusteredAt: timestamp(
      facts.clusteredAtMs === undefined
        ? undefined
        : facts.clusteredAtMs * 1000,
    ),
    newRowCount: facts.newRowCount,
    eps: facts.eps,
    drift: facts.drift ?? 0,
    error:
      facts.error === undefined
        ? null
        : failureFrom(facts.error, context.log, ""),
  };
}
