import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { ServiceError } from "@grpc/grpc-js";
import { errorFromCall } from "#cli/client";
import { SteppedClock } from "../support/galleries.js";
import { finished, type SeenOperation } from "../support/operations.js";
import {
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const days = (count: number) => count * 86_400_000;

/** Enrols so many entries, 256 a call. */
async function fill({ client }: WireServer, gallery: string, count: number) {
  await client.GalleryService.CreateGallery({
    gallery: { name: gallery, index: { flat: {} } },
  });
  for (let at = 0; at < count; at += 256)
    await client.GalleryService.Enroll({
      gallery,
      enrollments: Array.from(
        { length: Math.min(256, count - at) },
        (_, i) => ({
          feature: unitFeature(at + i),
        }),
      ),
    });
}

describe("operations of a clock that is stepped", () => {
  const clock = new SteppedClock();
  let wire: WireServer;
  before(async () => {
    wire = await startWireServer({}, { clock });
    await fill(wire, "a", 3);
    await fill(wire, "b", 4);
  });
  after(() => wire.close());

  const snapshot = async (gallery: string) => {
    const { AdminService } = wire.client;
    const made = AdminService.CreateSnapshot({ gallery });
    const { operationId } = await finished(wire.client, made);
    clock.timeMs += 1;
    return operationId;
  };
  const list = async (request: object = {}) =>
    (await wire.client.OperationService.ListOperations(request)).operations;

  test("are described: what they are, of what, how far, since when and until when", async () => {
    const createdMs = clock.timeMs;
    const operationId = await snapshot("b");
    const { operation } = await wire.client.OperationService.GetOperation({
      operationId,
    });
    const { createdAt, progressedAt, finishedAt, ...rest } = operation ?? {};
    assert.deepEqual(rest, {
      operationId,
      kind: "OPERATION_KIND_SNAPSHOT",
      state: "OPERATION_STATE_SUCCEEDED",
      subject: "gallery/b",
      doneCount: "4",
      totalCount: "4",
      error: null,
    });
    for (const time of [createdAt, progressedAt, finishedAt])
      assert.equal(
        Number(time?.seconds) * 1000 + (time?.nanos ?? 0) / 1e6,
        createdMs,
      );
  });

  test("are listed the newest first, all of them or those of a kind and state", async () => {
    const ids = [await snapshot("a"), await snapshot("b"), await snapshot("a")];
    const newest = (await list()).slice(0, 3);
    assert.deepEqual(
      newest.map(({ operationId }) => operationId),
      ids.toReversed(),
    );
    const all = await list();
    const kind = "OPERATION_KIND_SNAPSHOT";
    assert.deepEqual(await list({ kind }), all);
    assert.deepEqual(
      await list({ kind, state: "OPERATION_STATE_SUCCEEDED" }),
      all,
    );
    assert.deepEqual(await list({ state: "OPERATION_STATE_FAILED" }), []);
    assert.deepEqual(await list({ kind: "OPERATION_KIND_BACKUP" }), []);
  });

  test("are kept for 7 days after their end, also while the server runs, and then forgotten", async () => {
    const { OperationService } = wire.client;
    const old = await snapshot("a");
    clock.timeMs += days(7) - 1;
    assert.equal((await list())[0].operationId, old);
    const young = await snapshot("b");
    assert.deepEqual(
      (await list()).map(({ operationId }) => operationId),
      [young],
    );
    for (const call of [
      OperationService.GetOperation({ operationId: old }),
      OperationService.CancelOperation({ operationId: old }),
    ])
      await refused(call, "OPERATION_NOT_FOUND");
  });
});

describe("an operation that takes its time", () => {
  let wire: WireServer;
  before(async () => {
    wire = await startWireServer();
    await fill(wire, "long", 3072);
  });
  after(() => wire.close());

  const index = { hnsw: { m: 128, efConstruction: 2000 } };
  const rebuild = async () => {
    const { operation } = await wire.client.GalleryService.UpdateGallery({
      gallery: { name: "long", index },
      updateMask: { paths: ["index"] },
    });
    return operation?.operationId ?? "";
  };

  /** What a watcher is sent, and when, ms. */
  const watch = (operationId: string, onFirst: () => void = () => undefined) =>
    new Promise<readonly (SeenOperation & { readonly atMs: number })[]>(
      (resolve, reject) => {
        const seen: (SeenOperation & { readonly atMs: number })[] = [];
        wire.client
          .watchOperation(operationId)
          .on("data", ({ operation }: { operation: SeenOperation }) => {
            seen.push({ ...operation, atMs: performance.now() });
            if (seen.length === 1) onFirst();
          })
          .on("error", (error: ServiceError) => reject(errorFromCall(error)))
          .on("end", () => resolve(seen));
      },
    );

  test("is undone when it is cancelled before its commit, once or many times, and all its watchers are told", async () => {
    const { GalleryService, OperationService } = wire.client;
    const operationId = await rebuild();
    const cancel = () => OperationService.CancelOperation({ operationId });
    let cancelling: Promise<unknown> = Promise.resolve();
    const [one, other] = await Promise.all([
      watch(operationId, () => {
        cancelling = Promise.all([cancel(), cancel()]);
      }),
      watch(operationId),
    ]);
    await cancelling;
    for (const seen of [one, other]) {
      assert.equal(seen[0].state, "OPERATION_STATE_RUNNING");
      assert.equal(seen.at(-1)?.state, "OPERATION_STATE_CANCELLED");
    }
    const { operation } = await cancel();
    assert.equal(operation?.state, "OPERATION_STATE_CANCELLED");
    assert.equal(operation.error?.reason, "CANCELLED");
    const { gallery } = await GalleryService.GetGallery({ gallery: "long" });
    assert.notEqual(gallery?.index?.flat ?? null, null);
    assert.deepEqual(
      [gallery?.state, gallery?.entryCount, gallery?.operationId],
      ["GALLERY_STATE_READY", "3072", ""],
    );
  });

  test("is told of now, then at most twice a second, and last how it ended", async () => {
    const seen = await watch(await rebuild());
    assert.ok(seen.length >= 2, `${seen.length} messages`);
    assert.equal(seen[0].state, "OPERATION_STATE_RUNNING");
    const states = seen.map(({ state }) => state);
    assert.equal(states.at(-1), "OPERATION_STATE_SUCCEEDED");
    assert.ok(
      states.slice(0, -1).every((state) => state === "OPERATION_STATE_RUNNING"),
    );
    const counts = seen.map(({ doneCount }) => Number(doneCount));
    assert.deepEqual(
      counts,
      counts.toSorted((a, b) => a - b),
    );
    // The first may come late on its way; between the others lie the server's half seconds.
    const tookMs = seen[seen.length - 1].atMs - seen[0].atMs;
    assert.ok(tookMs > 500 * (seen.length - 1) - 250, `${tookMs} ms`);
  });
});
