import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  noiseCrop,
  refused,
  startWireServer,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer({
    serve: { online: true },
    memory: { k1: 5, k2: 2, preset: "paper", eps: 0.9 },
  });
  await wire.client.EmbedService.Embed({
    crops: Array.from({ length: 40 }, (_, i) => ({
      ...noiseCrop(i % 4),
      cropId: `c${i}`,
      cameraId: String(i % 2),
    })),
  });
});
after(() => wire.close());

describe("MemoryService", () => {
  test("learns from what Embed was given, and says so", async () => {
    const { MemoryService } = wire.client;
    await refused(MemoryService.ListClusters({}), "NO_CLUSTERS");
    const { memory } = await MemoryService.GetMemory({});
    assert.equal(memory?.rowCount, 40);
    assert.equal(memory?.state, "MEMORY_STATE_LEARNING");
    await refused(
      MemoryService.GetMemory({ memory: "nobody" }),
      "MEMORY_NOT_FOUND",
    );
  });

  test("clusters as an operation and lists clusters and rows in pages", async () => {
    const { MemoryService, OperationService } = wire.client;
    await refused(MemoryService.Recluster({ eps: 2 }), "FIELD_INVALID");
    const { operation } = await MemoryService.Recluster({});
    const operationId = operation?.operationId ?? "";
    let state = operation?.state;
    while (state === "OPERATION_STATE_RUNNING") {
      await delay(20);
      state = (await OperationService.GetOperation({ operationId })).operation
        ?.state;
    }
    assert.equal(state, "OPERATION_STATE_SUCCEEDED");
    const { clusters, clustering } = await MemoryService.ListClusters({});
    assert.equal(clustering, "1");
    const rows: number[] = [];
    let pageToken = "";
    do {
      const page = await MemoryService.ListClusterRows({
        pageSize: 7,
        pageToken,
      });
      rows.push(...page.rows.map(({ row }) => row));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.deepEqual(
      rows,
      Array.from({ length: 40 }, (_, i) => i),
    );
    if (clusters.length > 0) {
      const { clusterId, size } = clusters[0];
      const members = await MemoryService.ListClusterRows({ clusterId });
      assert.equal(members.rows.length, size);
    }
    await refused(
      MemoryService.ListClusterRows({ clusterId: 999 }),
      "CLUSTER_NOT_FOUND",
    );
    await refused(
      MemoryService.ListClusterRows({ clustering: "77" }),
      "CLUSTERING_GONE",
    );
    await refused(
      MemoryService.ListClusters({ pageToken: "x" }),
      "PAGE_TOKEN_INVALID",
    );
  });
});
