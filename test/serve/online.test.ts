import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { parseConfig } from "#core/config";
import { ReidError } from "#core/errors";
import { silentLog } from "#core/log";
import { randomStream } from "#core/random";
import { Store } from "#core/store";
import {
  createTelemetry,
  silentTelemetry,
  type Telemetry,
} from "#core/telemetry";
import { norm, normalizeRows } from "#core/vectors";
import { faissMissing } from "#index/faiss";
import { partitionAgreement } from "#memory/agreement";
import { OnlineMemory } from "#serve/online-memory";
import { faissNeighbours, type FindNeighbours } from "#serve/online-neighbours";
import type { SeenCrop } from "#serve/online-rows";
import { StoredOperations } from "#serve/operation-table";
import { OperationLog } from "#serve/operations";
import { neighboursByLoop } from "../support/neighbours.js";

const DIMENSION = 16;
const model = { name: "tiny", version: 1 };

/** Padded with −1 to the width asked for, as the server's own search pads. */
const loopNeighbours: FindNeighbours = (features, dimension, k) => {
  const count = features.length / dimension;
  const width = Math.min(k, count);
  const found = neighboursByLoop(features, dimension, k);
  const lists = new Int32Array(count * k).fill(-1);
  for (let i = 0; i < count; i++)
    lists.set(found.subarray(i * width, (i + 1) * width), i * k);
  return Promise.resolve(lists);
};

/** A crop near its identity's direction, shifted by its camera. */
function seen(
  identity: number,
  shot: number,
  more: Partial<SeenCrop> = {},
): SeenCrop {
  const camera = shot % 2;
  const own = randomStream(1, "identity", identity);
  const noise = randomStream(1, "shot", identity, shot);
  const tint = randomStream(1, "camera", camera);
  const feature = Float32Array.from(
    { length: DIMENSION },
    () => own.normal() + 0.15 * noise.normal() + 0.8 * tint.normal(),
  );
  normalizeRows(feature, DIMENSION);
  return {
    feature,
    cropId: `${identity}-${shot}`,
    cameraId: String(camera),
    trackId: "",
    capturedAtMs: 1000 * shot,
    ...more,
  };
}

const refusedWith = (code: string) => (error: unknown) =>
  error instanceof ReidError && error.code === code;

describe("OnlineMemory", () => {
  let folder: string;
  let store: Store;
  let operations: OperationLog;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "reid-online-"));
    store = await Store.open(folder, { minFreeBytes: 0 });
    operations = await OperationLog.open({
      table: new StoredOperations(store),
      clock: systemClock,
      log: silentLog,
    });
  });
  afterEach(async () => {
    await operations.close();
    await store.close();
    await rm(folder, { recursive: true });
  });

  const open = (
    settings: object = {},
    more: {
      version?: number;
      neighbours?: FindNeighbours;
      telemetry?: Telemetry;
    } = {},
  ) =>
    OnlineMemory.open({
      model: { ...model, version: more.version ?? 1 },
      dimension: DIMENSION,
      config: parseConfig({
        memory: {
          flush_ms: 5,
          recluster_rows: 100_000,
          recluster_min_ms: 0,
          ...settings,
        },
      }).memory,
      store,
      operations,
      telemetry: more.telemetry ?? silentTelemetry,
      clock: systemClock,
      log: silentLog,
      neighbours: more.neighbours ?? loopNeighbours,
    });

  /** Waits for an operation's end. */
  async function finished(operationId: string) {
    while (operations.get(operationId).state === "running")
      await new Promise<void>((resolve) => {
        const stop = operations.watch(operationId, () => {
          stop();
          resolve();
        });
      });
    return operations.get(operationId);
  }

  const recluster = async (memory: OnlineMemory, eps?: number) =>
    finished((await memory.recluster(eps)).operationId);

  const crops = (identities: number, shots: number) =>
    Array.from({ length: identities * shots }, (_, i) =>
      seen(i % identities, Math.floor(i / identities)),
    );

  test("keeps a row for each crop, and one for each track of each camera", async () => {
    const memory = await open();
    memory.observe(model, [seen(1, 0), seen(1, 0)]);
    assert.equal(memory.facts().rowCount, 2);
    const track = { trackId: "7", cameraId: "a" };
    memory.observe(model, [
      seen(1, 0, track),
      seen(1, 1, track),
      seen(2, 2, { ...track, cameraId: "b" }),
    ]);
    assert.deepEqual(
      [memory.facts().rowCount, memory.facts().newRowCount],
      [4, 4],
    );
    await recluster(memory);
    const { rows } = memory.rows({ limit: 10 });
    const [first, second] = [seen(1, 0).feature, seen(1, 1).feature];
    const expected = first.map((value, d) => 0.2 * value + 0.8 * second[d]);
    normalizeRows(expected, DIMENSION);
    assert.equal(rows[2].cropId, "1-1");
    rows[2].feature.forEach((value, d) =>
      assert.ok(Math.abs(value - expected[d]) < 1e-6),
    );
    assert.ok(Math.abs(norm(rows[2].feature) - 1) < 1e-6);
    await memory.close();
  });

  test("lets the row go that was seen longest ago, and leaves out crops of another version", async () => {
    const memory = await open({ max_rows: 3 });
    memory.observe(model, [
      seen(1, 0, { trackId: "t" }),
      seen(2, 0),
      seen(3, 0),
    ]);
    memory.observe(model, [seen(1, 2, { trackId: "t" }), seen(4, 0)]);
    memory.observe({ ...model, version: 2 }, [seen(5, 0)]);
    await recluster(memory);
    const ids = memory.rows({ limit: 10 }).rows.map((row) => row.cropId);
    assert.deepEqual(ids, ["1-2", "3-0", "4-0"]);
    await memory.close();
  });

  test("finds the identities of its traffic across cameras, and tells so in facts, pages and metrics", async () => {
    const telemetry = createTelemetry();
    const memory = await open({}, { telemetry });
    memory.observe(model, crops(12, 12));
    const operation = await recluster(memory);
    assert.equal(operation.state, "succeeded", operation.error?.message);
    const facts = memory.facts();
    assert.deepEqual(
      [facts.rowCount, facts.clustering, facts.newRowCount, facts.state],
      [144, 1, 0, "learning"],
    );
    const { rows } = memory.rows({ limit: 1000 });
    const { ari } = partitionAgreement(
      rows.map((row) => row.clusterId),
      rows.map((row) => Number(row.cropId.split("-")[0])),
    );
    assert.ok(ari > 0.8, `ARI ${ari}`);
    const { clusters } = memory.clusters();
    assert.equal(clusters.length, facts.clusterCount);
    assert.deepEqual(
      clusters.map(({ size }) => size),
      clusters.map(({ size }) => size).sort((a, b) => b - a),
    );
    assert.deepEqual(clusters[0].cameraIds, ["0", "1"]);
    assert.ok(
      clusters.every(({ prototype }) => Math.abs(norm(prototype) - 1) < 1e-6),
    );
    const members = memory.rows({
      clusterId: clusters[0].clusterId,
      limit: 1000,
    }).rows;
    assert.equal(members.length, clusters[0].size);
    const later = memory
      .rows({ afterRow: 99, limit: 5 })
      .rows.map(({ row }) => row);
    assert.deepEqual(later, [100, 101, 102, 103, 104]);
    assert.throws(
      () => memory.rows({ clusterId: 999, limit: 1 }),
      refusedWith("CLUSTER_NOT_FOUND"),
    );
    const text = await telemetry.render();
    assert.match(text, /reid_memory_rows\{model="tiny"\} 144/);
    assert.match(
      text,
      new RegExp(`reid_memory_clusters\\{model="tiny"\\} ${clusters.length}`),
    );
    assert.match(
      text,
      /reid_memory_clustering_duration_seconds_count\{model="tiny",outcome="ok"\} 1/,
    );
    await memory.close();
    await telemetry.close();
  });

  test("keeps the last two clusterings and no more", async () => {
    const memory = await open();
    assert.throws(() => memory.clusters(), refusedWith("NO_CLUSTERS"));
    memory.observe(model, crops(3, 6));
    for (let i = 0; i < 3; i++) await recluster(memory);
    assert.equal(memory.clusters().clustering, 3);
    assert.equal(memory.clusters(2, 2).clustering, 2);
    assert.throws(() => memory.clusters(2, 1), refusedWith("CLUSTERING_GONE"));
    await memory.close();
    const again = await open();
    assert.equal(again.clusters(2, 2).clustering, 2);
    assert.throws(() => again.clusters(2, 1), refusedWith("CLUSTERING_GONE"));
    await again.close();
  });

  test("is there again after a restart, rows, clusters and row numbers", async () => {
    const memory = await open({ max_rows: 50 });
    memory.observe(model, crops(6, 10));
    await recluster(memory);
    const facts = memory.facts();
    const rows = memory.rows({ limit: 100 });
    const clusters = memory.clusters();
    await memory.close();
    const again = await open({ max_rows: 50 });
    assert.deepEqual(
      { ...again.facts(), drift: undefined },
      { ...facts, drift: undefined },
    );
    assert.deepEqual(again.rows({ limit: 100 }), rows);
    assert.deepEqual(again.clusters(), clusters);
    again.observe(model, [seen(1, 99)]);
    await recluster(again);
    const last = again.rows({ limit: 100 }).rows.at(-1);
    assert.deepEqual([last?.row, last?.cropId], [60, "1-99"]);
    await again.close();
  });

  test("drops rows of another version of the model", async () => {
    const memory = await open();
    memory.observe(model, crops(3, 6));
    await memory.close();
    const newer = await open({}, { version: 2 });
    assert.deepEqual(
      [newer.facts().rowCount, newer.facts().clustering],
      [0, 0],
    );
    await newer.close();
    const older = await open();
    assert.equal(older.facts().rowCount, 0);
    await older.close();
  });

  test("clusters by itself after so many new rows, and never in the way of observe", async () => {
    let begin: () => void = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const memory = await open(
      { recluster_rows: 40 },
      {
        neighbours: (...args) => {
          begin();
          return loopNeighbours(...args);
        },
      },
    );
    memory.observe(model, crops(5, 8));
    assert.equal(memory.facts().state, "clustering");
    await begun;
    memory.observe(model, [seen(1, 50)]);
    assert.deepEqual(
      [memory.facts().clustering, memory.facts().rowCount],
      [0, 41],
    );
    await memory.settle();
    assert.deepEqual(
      [memory.facts().clustering, memory.facts().newRowCount],
      [1, 1],
    );
    await memory.close();
  });

  test("clusters what came too soon after the last clustering, though nothing comes any more", async () => {
    const begun: (() => void)[] = [];
    const second = new Promise<void>((resolve) => {
      begun.push(() => undefined, resolve);
    });
    const memory = await open(
      { recluster_rows: 40, recluster_min_ms: 50 },
      {
        neighbours: (...args) => {
          begun.shift()?.();
          return loopNeighbours(...args);
        },
      },
    );
    memory.observe(model, crops(5, 8));
    await memory.settle();
    memory.observe(model, crops(5, 8));
    assert.equal(memory.facts().state, "learning");
    await second;
    await memory.settle();
    assert.deepEqual(
      [memory.facts().clustering, memory.facts().newRowCount],
      [2, 0],
    );
    await memory.close();
  });

  for (const [title, rows] of [
    ["nothing at all", []],
    ["one row", [seen(1, 0)]],
    ["fewer rows than a core point needs", crops(3, 1)],
    ["as many rows as k1 is not", crops(4, 5)],
    ["one camera", crops(4, 8).map((crop) => ({ ...crop, cameraId: "x" }))],
    ["no camera ids", crops(4, 8).map((crop) => ({ ...crop, cameraId: "" }))],
    [
      "the same crop again and again",
      Array.from({ length: 40 }, () => seen(1, 0)),
    ],
    ["outliers only", crops(40, 1)],
  ] as const)
    for (const preset of ["auto", "paper"])
      test(`clusters ${title} under preset ${preset}`, async () => {
        const memory = await open({ preset });
        memory.observe(model, rows);
        const operation = await recluster(memory);
        assert.equal(operation.state, "succeeded", operation.error?.message);
        const facts = memory.facts();
        const sizes = memory
          .clusters(1)
          .clusters.reduce((sum, one) => sum + one.size, 0);
        assert.equal(sizes + facts.outlierCount, rows.length);
        await memory.close();
      });

  test("stays with the clustering before when one fails, and says why", async () => {
    let isBroken = false;
    const memory = await open(
      {},
      {
        neighbours: (...args) =>
          isBroken
            ? Promise.reject(new BrokenError())
            : loopNeighbours(...args),
      },
    );
    memory.observe(model, crops(4, 8));
    await recluster(memory);
    isBroken = true;
    const operation = await recluster(memory);
    assert.deepEqual(
      [operation.state, operation.error?.code],
      ["failed", "BROKEN"],
    );
    assert.deepEqual(
      [memory.facts().state, memory.facts().clustering],
      ["degraded", 1],
    );
    isBroken = false;
    await recluster(memory, 0.5);
    assert.deepEqual(
      [memory.facts().state, memory.facts().clustering, memory.facts().eps],
      ["learning", 2, 0.5],
    );
    await memory.close();
  });

  test(
    "answers the same through FAISS as through a double loop",
    { skip: faissMissing()?.message ?? false },
    async () => {
      const rows = Float32Array.from(
        crops(30, 8).flatMap((crop) => [...crop.feature]),
      );
      const shared = new Float32Array(new SharedArrayBuffer(rows.byteLength));
      shared.set(rows);
      assert.deepEqual(
        await faissNeighbours(shared, DIMENSION, 30),
        await loopNeighbours(rows, DIMENSION, 30),
      );
      const few = rows.subarray(0, 5 * DIMENSION);
      assert.deepEqual(
        await faissNeighbours(few, DIMENSION, 8),
        await loopNeighbours(few, DIMENSION, 8),
      );
    },
  );
});

class BrokenError extends ReidError {
  readonly code = "BROKEN";
  readonly kind = "unavailable";

  constructor() {
    super("broken on purpose: mend it", {});
  }
}
