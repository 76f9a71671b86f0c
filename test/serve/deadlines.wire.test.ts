import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RpcName } from "#serve/rpcs";
import { metric, untilMetric } from "../support/metrics.js";
import { failedCall, trailersOf } from "../support/raw-call.js";
import { wireEngine } from "../support/scaled.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  // A batch waits longer for its second crop than any deadline here.
  wire = await startWireServer({ inference: { window_ms: 1000 } });
  await wire.client.GalleryService.CreateGallery({
    gallery: { name: "g", index: { flat: {} } },
  });
});
after(() => wire.close());

const crop = noiseCrop(1);

/** Fails unless the server ends the call at its deadline; gives the stage. */
async function stageOf(name: RpcName, request: object, deadlineMs: number) {
  const failed = await failedCall(wire.address, name, request, { deadlineMs });
  const { error, details } = trailersOf(failed);
  assert.deepEqual([failed.code, error.code], [4, "DEADLINE"], failed.message);
  assert.ok(details.includes("google.rpc.ErrorInfo"));
  return error.facts["stage"];
}

describe("a deadline that passes while a crop waits for the encoder", () => {
  const calls: readonly (readonly [RpcName, object])[] = [
    ["EmbedService/Embed", { crops: [crop] }],
    ["SearchService/Search", { gallery: "g", k: 1, queries: [{ crop }] }],
    ["SearchService/Identify", { gallery: "g", crop }],
    ["GalleryService/Enroll", { gallery: "g", enrollments: [{ crop }] }],
  ];
  for (const [name, request] of calls)
    test(`ends ${name} with DEADLINE in stage queue, and the crop leaves the queue`, async () => {
      assert.equal(await stageOf(name, request, 200), "queue");
      for (const priority of ["interactive", "bulk"])
        assert.equal(
          await metric(wire, `reid_queue_depth{priority="${priority}"}`),
          0,
        );
    });

  test("writes nothing", async () => {
    const { gallery } = await wire.client.GalleryService.GetGallery({
      gallery: "g",
    });
    assert.equal(gallery?.sequence, "0");
  });
});

describe("a deadline that passes while a search", () => {
  before(async () => {
    const { GalleryService } = wire.client;
    await GalleryService.CreateGallery({
      gallery: {
        name: "slow",
        index: { hnsw: { m: 128, efConstruction: 2000 } },
      },
    });
    await Promise.all(
      Array.from({ length: 12 }, (_, call) =>
        GalleryService.Enroll({
          gallery: "slow",
          enrollments: Array.from({ length: 256 }, (__, i) => ({
            feature: unitFeature(call * 256 + i),
          })),
        }),
      ),
    );
  });
  const request = { gallery: "slow", queries: [{ feature: unitFeature(1) }] };

  // Milvus may be faster than the deadline: disturbances.test.ts holds it back.
  const skip = wireEngine === "scaled" && "test/scale-out has it";
  test(
    "waits for the index ends with DEADLINE in stage sequence",
    { skip },
    async () => {
      const waiting = {
        ...request,
        k: 1,
        freshness: "FRESHNESS_INDEXED",
        minSequence: String(12 * 256),
      };
      assert.equal(
        await stageOf("SearchService/Search", waiting, 200),
        "sequence",
      );
      const { results } = await wire.client.SearchService.Search({
        ...waiting,
        freshness: "FRESHNESS_ACKNOWLEDGED",
      });
      assert.equal(results[0].hits.length, 1);
    },
  );

  test("compares stops it, and the server counts a DEADLINE", async () => {
    const counted =
      'rpc_server_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="reid.v1.SearchService/Search",' +
      'rpc_response_status_code="DEADLINE_EXCEEDED",error_type="DEADLINE"}';
    const before = (await metric(wire, counted)) ?? 0;
    const failed = await failedCall(
      wire.address,
      "SearchService/Search",
      {
        ...request,
        k: 1,
        queries: Array.from({ length: 40 }, () => request.queries[0]),
        rerank: { candidates: 1000, k1: 100, k2: 100 },
      },
      { deadlineMs: 500 },
    );
    // The transport's own timer may be faster by a hair, and knows no reasons.
    assert.equal(failed.code, 4);
    await untilMetric(wire, counted, (calls = 0) => calls === before + 1);
  });
});

describe("a call that is cancelled", () => {
  test("leaves the queue at once", async () => {
    const queued = `reid_queue_depth{priority="interactive"}`;
    const hangUp = new AbortController();
    const call = refused(
      wire.client.EmbedService.Embed(
        { crops: [crop, crop] },
        { signal: hangUp.signal },
      ),
      "CALL_FAILED",
    );
    await untilMetric(wire, queued, (depth) => depth === 2);
    hangUp.abort();
    assert.equal((await call).kind, "cancelled");
    await untilMetric(wire, queued, (depth) => depth === 0);
  });
});
