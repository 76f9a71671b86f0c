import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { metric, untilMetric } from "../support/metrics.js";
import { failedCall, trailersOf } from "../support/raw-call.js";
import { writeSlowBundle } from "../support/slow-encoder.js";
import {
  noiseCrop,
  startWireServer,
  type WireServer,
} from "../support/wire-server.js";

/** Crops of a load: it has the encoder for eight batches. */
const many = 64;
let models = "";
let wire: WireServer;

before(async () => {
  models = await mkdtemp(join(tmpdir(), "reid-slow-"));
  await writeSlowBundle(models, "slow");
  wire = await startWireServer({
    serve: { models },
    inference: {
      workers: 1,
      threads_per_worker: 1,
      max_batch: many / 8,
      window_ms: 0,
    },
  });
  await wire.client.GalleryService.CreateGallery({ gallery: { name: "g" } });
  await embed(many);
});
after(async () => {
  await wire.close();
  await rm(models, { recursive: true });
});

const embed = (
  count: number,
  priority: "PRIORITY_INTERACTIVE" | "PRIORITY_BULK" = "PRIORITY_INTERACTIVE",
) =>
  wire.client.EmbedService.Embed({
    crops: Array.from({ length: count }, (_, seed) => noiseCrop(seed)),
    priority,
  });

describe("a deadline", () => {
  test("that passes while a crop is in the encoder is told of with stage encoder", async () => {
    const stages: unknown[] = [];
    for (let attempt = 0; !stages.includes("encoder"); attempt++) {
      assert.ok(attempt < 20, `stages ${stages.join()}`);
      const started = performance.now();
      await embed(1);
      const tookMs = performance.now() - started;
      // Half of the time of the one before, where the machine is as fast as it was then.
      const failed = await failedCall(
        wire.address,
        "EmbedService/Embed",
        { crops: [noiseCrop(1)] },
        { deadlineMs: Math.ceil(tookMs / 2) },
      ).catch(() => undefined);
      if (failed === undefined) continue;
      assert.equal(failed.code, 4);
      stages.push(trailersOf(failed).error.facts["stage"]);
    }
  });

  test("that the queue cannot meet is refused at the door with OVERLOADED, and when to try again", async () => {
    const ahead = embed(many);
    const queued = 'reid_queue_depth{priority="interactive"}';
    await untilMetric(wire, queued, (depth = 0) => depth > many / 2);
    const failed = await failedCall(
      wire.address,
      "SearchService/Identify",
      { gallery: "g", crop: noiseCrop(1) },
      { deadlineMs: 40 },
    );
    const { error, details, pushbackMs } = trailersOf(failed);
    assert.deepEqual([failed.code, error.code], [8, "OVERLOADED"]);
    assert.equal(error.facts["queue"], "interactive");
    assert.ok(Number(error.facts["depth"]) >= 1);
    assert.ok(details.includes("google.rpc.RetryInfo"));
    assert.ok(Number(pushbackMs) > 0);
    await ahead;
  });
});

/** Calls in the order in which they were answered. */
async function inOrder(
  calls: Readonly<Record<string, Promise<unknown>>>,
): Promise<readonly string[]> {
  const order: string[] = [];
  await Promise.all(
    Object.entries(calls).map(async ([name, call]) => {
      await call;
      order.push(name);
    }),
  );
  return order;
}

describe("priority", () => {
  test("takes an interactive crop before the bulk crops that came first", async () => {
    const load = embed(many, "PRIORITY_BULK");
    assert.deepEqual(await inOrder({ load, one: embed(1) }), ["one", "load"]);
  });

  test("lets the oldest bulk crop have every tenth place, so that it waits and never starves", async () => {
    const load = embed(many);
    const one = embed(1, "PRIORITY_BULK");
    assert.deepEqual(await inOrder({ load, one }), ["one", "load"]);
  });

  test("is BULK for StreamEnroll, and INTERACTIVE for Enroll and where open says so", async () => {
    const crop = noiseCrop(1);
    const stream = async (open: object) => {
      const call = wire.client.streamEnroll();
      const done = new Promise((resolve, reject) =>
        call.on("end", resolve).on("error", reject),
      );
      call.on("data", () => undefined);
      call.write({ open: { gallery: "g", ...open } });
      call.write({ enrollment: { correlationId: "1", item: { crop } } });
      call.end();
      await done;
    };
    const enroll = () =>
      wire.client.GalleryService.Enroll({
        gallery: "g",
        enrollments: [{ crop }],
      });
    const queued = () =>
      Promise.all(
        ["bulk", "interactive"].map((priority) =>
          metric(
            wire,
            `reid_queue_duration_seconds_count{priority="${priority}"}`,
          ),
        ),
      );
    for (const [bulk, interactive, call] of [
      [1, 0, () => stream({})],
      [0, 1, () => stream({ priority: "PRIORITY_INTERACTIVE" })],
      [0, 1, enroll],
    ] as const) {
      const [bulkBefore = 0, interactiveBefore = 0] = await queued();
      await call();
      assert.deepEqual(await queued(), [
        bulkBefore + bulk,
        interactiveBefore + interactive,
      ]);
    }
  });
});
