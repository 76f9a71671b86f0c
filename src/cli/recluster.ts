import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "./client.js";
import { failureError } from "./retrieval.js";

/** Which memory to cluster anew, and how. */
export interface ReclusterRequest {
  /** A model's name; empty: the default model. */
  readonly memory: string;
  /** (0, 1], Jaccard distance; default as configured. */
  readonly eps?: number | undefined;
  readonly signal: AbortSignal;
}

/** What a clustering came to. */
export interface ReclusterResult {
  readonly operationId: string;
  /** Its number, rising by one. */
  readonly clustering: number;
  readonly clusters: number;
  readonly outliers: number;
  readonly eps: number;
}

/** How often the operation is asked whether it is done. */
const POLL_MS = 200;

/**
 * Clusters a server's memory anew and waits for it.
 *
 * @throws {ReidError} the server's reason when the clustering failed
 */
export async function reclusterMemory(
  client: Client,
  { memory, eps, signal }: ReclusterRequest,
): Promise<ReclusterResult> {
  const started = await client.MemoryService.Recluster({
    memory,
    ...(eps === undefined ? {} : { eps }),
  });
  const operationId = started.operation?.operationId ?? "";
  for (;;) {
    const { operation } = await client.OperationService.GetOperation(
      { operationId },
      { signal },
    );
    if (operation?.error !== null && operation?.error !== undefined)
      throw failureError(operation.error);
    if (operation?.state !== "OPERATION_STATE_RUNNING") {
      const detail = operation?.recluster;
      return {
        operationId,
        clustering: Number(detail?.clustering ?? 0),
        clusters: detail?.clusterCount ?? 0,
        outliers: detail?.outlierCount ?? 0,
        eps: detail?.eps ?? 0,
      };
    }
    await delay(POLL_MS, undefined, { signal });
  }
}
