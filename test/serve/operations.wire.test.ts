import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { watched } from "../support/operations.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer({ serve: { online: true } });
  const crops = Array.from({ length: 8 }, (_, seed) => noiseCrop(seed));
  await wire.client.EmbedService.Embed({ crops });
});
after(() => wire.close());

const states = async (operationId: string) =>
  (await watched(wire.client, operationId)).map(({ state }) => state);

describe("OperationService", () => {
  test("watches an operation to its end, lists it by kind and state, in pages", async () => {
    const { MemoryService, OperationService } = wire.client;
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) {
      const { operation } = await MemoryService.Recluster({});
      const id = operation?.operationId ?? "";
      ids.push(id);
      assert.equal((await states(id)).at(-1), "OPERATION_STATE_SUCCEEDED");
    }
    const kind = "OPERATION_KIND_RECLUSTER";
    const state = "OPERATION_STATE_SUCCEEDED";
    const first = await OperationService.ListOperations({
      kind,
      state,
      pageSize: 2,
    });
    const second = await OperationService.ListOperations({
      kind,
      state,
      pageSize: 2,
      pageToken: first.nextPageToken,
    });
    const listed = [...first.operations, ...second.operations];
    assert.equal(second.nextPageToken, "");
    const times = listed.map(({ createdAt }) => Number(createdAt?.seconds));
    assert.deepEqual(
      times,
      times.toSorted((a, b) => b - a),
    );
    assert.deepEqual(
      listed.map(({ operationId }) => operationId).sort(),
      ids.sort(),
    );
    const none = await OperationService.ListOperations({
      kind: "OPERATION_KIND_BACKUP",
    });
    assert.deepEqual(none.operations, []);
    await refused(
      OperationService.ListOperations({
        kind,
        pageSize: 2,
        pageToken: first.nextPageToken,
      }),
      "PAGE_TOKEN_INVALID",
    );
  });

  test("cancelling what is done is no error", async () => {
    const { MemoryService, OperationService } = wire.client;
    const { operation } = await MemoryService.Recluster({});
    const operationId = operation?.operationId ?? "";
    await states(operationId);
    const cancelled = await OperationService.CancelOperation({ operationId });
    assert.equal(cancelled.operation?.state, "OPERATION_STATE_SUCCEEDED");
  });

  test("refuses ids that are no ids and operations that never were", async () => {
    const { OperationService } = wire.client;
    await refused(states("none"), "OPERATION_NOT_FOUND");
    await refused(states(""), "FIELD_INVALID");
    await refused(
      OperationService.CancelOperation({ operationId: "none" }),
      "OPERATION_NOT_FOUND",
    );
    await refused(
      OperationService.CancelOperation({ operationId: "" }),
      "FIELD_INVALID",
    );
    await refused(
      // A number that no name stands for.
      OperationService.ListOperations({ kind: 99 as 1 }),
      "FIELD_INVALID",
    );
  });
});
