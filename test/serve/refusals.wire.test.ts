import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { ServiceError } from "@grpc/grpc-js";
import { errorFromCall } from "#cli/client";
import { systemClock } from "#core/clock";
import { silentLog } from "#core/log";
import { Store } from "#core/store";
import { StoredOperations } from "#serve/operation-table";
import { OperationLog } from "#serve/operations";
import { inFolder } from "../support/galleries.js";
import { untilMetric } from "../support/metrics.js";
import { finished } from "../support/operations.js";
import { failedCall, trailersOf } from "../support/raw-call.js";
import {
  noiseCrop,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

/** Runs a test's own server. */
async function withServer(
  settings: Readonly<Record<string, object>>,
  work: (wire: WireServer) => Promise<void>,
  options: Parameters<typeof startWireServer>[1] = {},
): Promise<void> {
  const wire = await startWireServer(settings, options);
  try {
    await work(wire);
  } finally {
    await wire.close();
  }
}

const flat = (name: string) => ({ gallery: { name, index: { flat: {} } } });
const queued = 'reid_queue_depth{priority="interactive"}';

describe("what a failed call carries", () => {
  let wire: WireServer;
  before(async () => {
    wire = await startWireServer({
      limits: { galleries: 1, queue_interactive: 1, request_bytes: 65_536 },
      inference: { window_ms: 1000 },
    });
    await wire.client.GalleryService.CreateGallery(flat("g"));
  });
  after(() => wire.close());

  test("names the limit of galleries as a quota, with GALLERY_LIMIT", async () => {
    const failed = await failedCall(
      wire.address,
      "GalleryService/CreateGallery",
      flat("second"),
    );
    const { error, details, pushbackMs } = trailersOf(failed);
    assert.deepEqual([failed.code, error.code], [8, "GALLERY_LIMIT"]);
    assert.ok(details.includes("google.rpc.QuotaFailure"));
    assert.equal(pushbackMs, undefined, "trying again helps nobody");
  });

  test("names the resource that is there, or is not", async () => {
    for (const [name, request, reason, resource] of [
      [
        "GalleryService/CreateGallery",
        flat("g"),
        "GALLERY_EXISTS",
        "reid.v1.Gallery",
      ],
      [
        "GalleryService/GetEntry",
        { gallery: "g", entryId: "e" },
        "ENTRY_NOT_FOUND",
        "reid.v1.Entry",
      ],
      [
        "OperationService/WatchOperation",
        { operationId: "none" },
        "OPERATION_NOT_FOUND",
        "reid.v1.Operation",
      ],
    ] as const) {
      const { error, details } = trailersOf(
        await failedCall(wire.address, name, request),
      );
      assert.equal(error.code, reason);
      assert.ok(details.includes("google.rpc.ResourceInfo"), reason);
      assert.ok(details.includes(resource), reason);
    }
  });

  test("says when to try again where the queue is full, twice: OVERLOADED", async () => {
    const first = wire.client.EmbedService.Embed({ crops: [noiseCrop(1)] });
    await untilMetric(wire, queued, (depth) => depth === 1);
    const failed = await failedCall(wire.address, "EmbedService/Embed", {
      crops: [noiseCrop(2)],
    });
    const { error, details, pushbackMs } = trailersOf(failed);
    assert.deepEqual([failed.code, error.code], [8, "OVERLOADED"]);
    assert.ok(details.includes("google.rpc.RetryInfo"));
    assert.equal(pushbackMs, error.facts["retryAfterMs"]);
    assert.equal((await first).results.length, 1);
  });

  test("is each crop's own where the queue is full and others of its batch need no encoder", async () => {
    const { EmbedService, GalleryService, SearchService } = wire.client;
    const first = EmbedService.Embed({ crops: [noiseCrop(1)] });
    await untilMetric(wire, queued, (depth) => depth === 1);
    const items = [{ feature: unitFeature(1) }, { crop: noiseCrop(2) }];
    const { results: enrolled } = await GalleryService.Enroll({
      gallery: "g",
      enrollments: items,
    });
    const { results: found } = await SearchService.Search({
      gallery: "g",
      k: 1,
      queries: items,
    });
    assert.deepEqual([enrolled[0].error, found[0].error], [null, null]);
    assert.equal(found[0].hits.length, 1);
    for (const { error } of [enrolled[1], found[1]]) {
      assert.deepEqual([error?.reason, error?.code], ["OVERLOADED", 8]);
      assert.notEqual(error?.retryAfter ?? null, null);
    }
    await first;
  });

  test("is the transport's own word where a request is over its size", async () => {
    const failed = await failedCall(wire.address, "EmbedService/Embed", {
      crops: [{ encoded: Buffer.alloc(70_000) }],
    });
    assert.equal(failed.code, 8);
    assert.match(failed.details, /larger than max/);
  });
});

describe("a bug of ours", () => {
  test("is INTERNAL with an id that is in the log, and not a word of it", async () => {
    const logged: object[] = [];
    const log = {
      ...silentLog,
      child: () => log,
      error: (_: string, facts?: object) => logged.push(facts ?? {}),
    };
    let isBroken = false;
    const freeBytes = () =>
      isBroken
        ? Promise.reject(new RangeError("secret"))
        : Promise.resolve(1e12);
    await withServer(
      { store: { min_free_bytes: 1 } },
      async ({ address }) => {
        isBroken = true;
        const failed = await failedCall(
          address,
          "GalleryService/CreateGallery",
          flat("g"),
        );
        const { error, details } = trailersOf(failed);
        assert.deepEqual([failed.code, error.code], [13, "INTERNAL"]);
        assert.ok(!details.includes("secret"));
        const { errorId } = error.facts;
        assert.ok(
          logged.some(
            (facts) => "errorId" in facts && facts.errorId === errorId,
          ),
        );
      },
      { log, store: { minFreeBytes: 1, freeBytes } },
    );
  });
});

describe("an operation that a restart cut off", () => {
  test("is FAILED with OPERATION_INTERRUPTED at the next start", () =>
    inFolder(async (folder) => {
      const data = join(folder, "data");
      const store = await Store.open(data, { minFreeBytes: 0 });
      const operations = await OperationLog.open({
        table: new StoredOperations(store),
        clock: systemClock,
        log: silentLog,
      });
      const { operationId } = await operations.start(
        "restore",
        "backup/b",
        ({ signal }) =>
          new Promise<undefined>((_, reject) =>
            signal.addEventListener("abort", () =>
              reject(signal.reason as Error),
            ),
          ),
      );
      await operations.close();
      await store.close();
      await withServer({ serve: { data } }, async ({ client }) => {
        const { operation } = await client.OperationService.GetOperation({
          operationId,
        });
        assert.equal(operation?.state, "OPERATION_STATE_FAILED");
        assert.equal(operation.error?.reason, "OPERATION_INTERRUPTED");
        assert.equal(operation.error.code, 14);
        assert.equal(operation.subject, "backup/b");
      });
    }));
});

/** A stream's end: the failure, and what came before it. */
function endOf<Answer>(stream: {
  on(event: "data", take: (answer: Answer) => void): unknown;
  on(event: "error", take: (error: ServiceError) => void): unknown;
}): Promise<{ failed: ServiceError; answers: readonly Answer[] }> {
  const answers: Answer[] = [];
  return new Promise((resolve) => {
    stream.on("data", (answer) => answers.push(answer));
    stream.on("error", (failed) => resolve({ failed, answers }));
  });
}

/** Fails unless a stream was sent elsewhere, with the time after which to come. */
function assertSentElsewhere(failed: ServiceError): void {
  assert.equal(errorFromCall(failed).code, "SHUTTING_DOWN", failed.message);
  assert.equal(failed.code, 14);
  const { details, pushbackMs } = trailersOf(failed);
  assert.ok(details.includes("google.rpc.RetryInfo"));
  assert.notEqual(pushbackMs, undefined);
}

/** A disk whose writes wait while it is held: work that has to write does not end. */
class HeldDisk {
  readonly settings = { store: { min_free_bytes: 1 } };
  readonly options = { store: { freeBytes: () => this.#free } };
  #free = Promise.resolve(1e12);
  #release: (freeBytes: number) => void = () => undefined;

  hold(): void {
    this.#free = new Promise((resolve) => (this.#release = resolve));
  }

  release(): void {
    this.#release(1e12);
  }
}

/** A gallery that it takes some time to index. */
async function fill({ client }: WireServer): Promise<void> {
  const { GalleryService } = client;
  await GalleryService.CreateGallery(flat("long"));
  for (let call = 0; call < 10; call++)
    await GalleryService.Enroll({
      gallery: "long",
      enrollments: Array.from({ length: 256 }, (_, i) => ({
        feature: unitFeature(call * 256 + i),
      })),
    });
}

/** Rebuilds it; the operation does not end before the disk is released. @returns its id */
async function startRebuild(
  { client }: WireServer,
  disk: HeldDisk,
): Promise<string> {
  const index = { hnsw: { m: 128, efConstruction: 2000 } };
  const { operation } = await client.GalleryService.UpdateGallery({
    gallery: { name: "long", index },
    updateMask: { paths: ["index"] },
  });
  disk.hold();
  return operation?.operationId ?? "";
}

describe("a server that ends", () => {
  test("sends every stream elsewhere with SHUTTING_DOWN, its crops answered", () => {
    const disk = new HeldDisk();
    return withServer(
      disk.settings,
      async (wire) => {
        const { client, server } = wire;
        await fill(wire);
        const id = await startRebuild(wire, disk);
        const watching = endOf(client.watchOperation(id));
        const embedding = client.streamEmbed();
        const embedded = endOf<{ readonly result?: object | null }>(embedding);
        embedding.write({ open: {} });
        embedding.write({ crop: { correlationId: "1", crop: noiseCrop(1) } });
        await new Promise<void>((resolve) =>
          embedding.on("data", ({ result }: { result?: object | null }) => {
            if (result) resolve();
          }),
        );
        const closing = server.close();
        assertSentElsewhere((await watching).failed);
        const { failed, answers } = await embedded;
        assertSentElsewhere(failed);
        assert.equal(answers.filter(({ result }) => result).length, 1);
        disk.release();
        await closing;
      },
      disk.options,
    );
  });

  test("cuts a call that its grace does not suffice for with SHUTTING_DOWN", () =>
    withServer(
      { serve: { drain_ms: 50 }, inference: { window_ms: 1000 } },
      async (wire) => {
        const call = failedCall(wire.address, "EmbedService/Embed", {
          crops: [noiseCrop(1)],
        });
        await untilMetric(wire, queued, (depth) => depth === 1);
        const closing = wire.server.close();
        assertSentElsewhere(await call);
        await closing;
      },
    ));
});

describe("a connection that has reached its age", () => {
  test("ends its streams with SHUTTING_DOWN, what they have taken answered, and other calls go on", () => {
    const disk = new HeldDisk();
    return withServer(
      { ...disk.settings, grpc: { max_connection_age_ms: 1000 } },
      async (wire) => {
        const { client } = wire;
        await fill(wire);
        const embedding = client.streamEmbed();
        const embedded = endOf<{ readonly result?: object | null }>(embedding);
        embedding.write({ open: {} });
        embedding.write({ crop: { correlationId: "1", crop: noiseCrop(1) } });
        const enrolling = client.streamEnroll();
        const enrolled = endOf<{ readonly commit?: object | null }>(enrolling);
        enrolling.write({ open: { gallery: "long" } });
        enrolling.write({
          enrollment: {
            correlationId: "1",
            item: { feature: unitFeature(1), entry: { entryId: "e" } },
          },
        });
        for (const { failed } of [await embedded, await enrolled])
          assertSentElsewhere(failed);
        const results = (await embedded).answers.filter(({ result }) => result);
        const commits = (await enrolled).answers.filter(({ commit }) => commit);
        assert.deepEqual([results.length, commits.length], [1, 1]);
        const id = await startRebuild(wire, disk);
        assertSentElsewhere((await endOf(client.watchOperation(id))).failed);
        disk.release();
        const { entry } = await client.GalleryService.GetEntry({
          gallery: "long",
          entryId: "e",
        });
        assert.equal(entry?.entryId, "e");
      },
      disk.options,
    );
  });
});

describe("a gallery that is worked on", () => {
  test("is not restored meanwhile: GALLERY_BUSY, with the operation and a time to try again", () =>
    inFolder((folder) => {
      const disk = new HeldDisk();
      return withServer(
        { ...disk.settings, backup: { dir: folder } },
        async (wire) => {
          const { AdminService } = wire.client;
          await fill(wire);
          const made = await finished(
            wire.client,
            AdminService.CreateBackup({ galleries: ["long"] }),
          );
          const operationId = await startRebuild(wire, disk);
          const failed = await failedCall(
            wire.address,
            "AdminService/RestoreBackup",
            { backupId: made.backup?.backupId ?? "" },
          );
          disk.release();
          const { error, details, pushbackMs } = trailersOf(failed);
          assert.deepEqual([failed.code, error.code], [9, "GALLERY_BUSY"]);
          assert.equal(error.facts["operationId"], operationId);
          assert.ok(details.includes("google.rpc.RetryInfo"));
          assert.notEqual(pushbackMs, undefined);
        },
        disk.options,
      );
    }));
});
