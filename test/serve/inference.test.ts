import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { parseConfig } from "#core/config";
import { ReidError } from "#core/errors";
import { encodePng, type RawPixels } from "#core/image";
import { silentLog } from "#core/log";
import { randomStream } from "#core/random";
import { createTelemetry, silentTelemetry } from "#core/telemetry";
import { norm } from "#core/vectors";
import { Inference, type CropInput } from "#serve/inference";
import { InferencePool, planWorkers } from "#serve/inference-pool";
import { ModelRegistry } from "#serve/registry";
import { assertClose } from "../support/close.js";
import { tiny, writeTinyBundle } from "../support/tiny-bundle.js";

function rawCrop(seed: number): RawPixels {
  const random = randomStream(seed, "crop");
  const data = new Uint8Array(20 * 10 * 3).map(() => random.below(256));
  return { data, format: "rgb8", heightPx: 20, widthPx: 10 };
}

const refusedWith = (code: string) => (error: unknown) =>
  error instanceof ReidError && error.code === code;

async function openAll(folder: string, settings: object = {}) {
  const config = parseConfig({
    inference: { workers: 1, threads_per_worker: 1, max_batch: 8 },
    ...settings,
  });
  const pool = new InferencePool({
    workers: 1,
    threads: 1,
    maxBatch: config.inference.maxBatch,
    device: "cpu",
    log: silentLog,
  });
  const registry = await ModelRegistry.open({
    folder,
    pool,
    clock: systemClock,
    log: silentLog,
  });
  const telemetry = createTelemetry();
  const inference = new Inference({
    registry,
    pool,
    config,
    telemetry,
    clock: systemClock,
  });
  const close = async () => {
    await inference.close();
    await registry.close();
    await pool.close();
    await telemetry.close();
  };
  return { pool, registry, inference, telemetry, close };
}

describe("Inference", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "reid-inference-"));
    await writeTinyBundle(folder);
  });
  after(() => rm(folder, { recursive: true }));

  test("gives each crop the same feature, alone, in any batch, and from a file", async () => {
    const all = await openAll(folder);
    try {
      const crops: CropInput[] = Array.from({ length: 24 }, (_, i) => ({
        raw: rawCrop(i),
      }));
      const { outcomes, model } = await all.inference.embed(crops);
      assert.deepEqual(
        [model.key, model.dimension],
        ["tiny/1", tiny.dimension],
      );
      for (const [i, outcome] of outcomes.entries()) {
        assert.ok(outcome instanceof Float32Array);
        assert.ok(Math.abs(norm(outcome) - 1) < 1e-6);
        const alone = await all.inference.embed([
          { encoded: await encodePng(rawCrop(i)) },
        ]);
        assertClose(alone.outcomes[0] as Float32Array, outcome, { abs: 1e-6 });
      }
    } finally {
      await all.close();
    }
  });

  test("answers a bad crop for itself and leaves its neighbours unharmed, in every position", async () => {
    const all = await openAll(folder);
    try {
      const good = Array.from({ length: 4 }, (_, i): CropInput => ({
        raw: rawCrop(i),
      }));
      const { outcomes: expected } = await all.inference.embed(good);
      const bad: CropInput = { encoded: Buffer.from("no picture") };
      for (let at = 0; at <= good.length; at++) {
        const { outcomes } = await all.inference.embed(
          good.toSpliced(at, 0, bad),
        );
        assert.ok(refusedWith("CROP_UNDECODABLE")(outcomes[at]));
        outcomes.toSpliced(at, 1).forEach((outcome, i) =>
          assertClose(outcome as Float32Array, expected[i] as Float32Array, {
            abs: 1e-6,
          }),
        );
      }
      const text = await all.telemetry.render();
      assert.match(
        text,
        /reid_crops_total\{origin="embed",outcome="CROP_UNDECODABLE"\} 5/,
      );
      assert.match(text, /reid_queue_depth\{priority="interactive"\} 0/);
      assert.match(text, /reid_workers\{state="idle"\} 1/);
      assert.match(text, /reid_batch_size_count\{model="tiny"\}/);
    } finally {
      await all.close();
    }
  });

  test("refuses a call beyond the queue, and takes the next one", async () => {
    const all = await openAll(folder, { limits: { queue_interactive: 4 } });
    try {
      const crops = Array.from({ length: 5 }, (_, i): CropInput => ({
        raw: rawCrop(i),
      }));
      await assert.rejects(
        all.inference.embed(crops),
        refusedWith("OVERLOADED"),
      );
      const { outcomes } = await all.inference.embed(crops.slice(1));
      assert.equal(outcomes.length, 4);
      assert.equal(all.inference.depth("interactive"), 0);
    } finally {
      await all.close();
    }
  });

  test("drops work whose signal aborts, and says whether it was the caller or the deadline", async () => {
    const all = await openAll(folder);
    try {
      const crops = [{ raw: rawCrop(1) }];
      const aborted = AbortSignal.abort();
      await assert.rejects(
        all.inference.embed(crops, { signal: aborted }),
        refusedWith("CANCELLED"),
      );
      const late = AbortSignal.abort(new DOMException("late", "TimeoutError"));
      await assert.rejects(
        all.inference.embed(crops, { signal: late }),
        refusedWith("DEADLINE"),
      );
      assert.equal(all.inference.depth("interactive"), 0);
    } finally {
      await all.close();
    }
  });

  test("names models that are not there or not loaded", async () => {
    await writeTinyBundle(folder, "two", 2);
    await writeTinyBundle(folder, "two", 3);
    const all = await openAll(folder);
    try {
      const crops = [{ raw: rawCrop(1) }];
      const embed = (name: string, version = 0) =>
        all.inference.embed(crops, { model: { name, version } });
      assert.deepEqual(all.registry.names(), ["tiny", "two"]);
      assert.equal(all.registry.defaultModel, "tiny");
      assert.deepEqual(
        all.registry.list().map((one) => [one.name, one.version, one.state]),
        [
          ["tiny", 1, "active"],
          ["two", 2, "active"],
          ["two", 1, "on-disk"],
        ],
      );
      await assert.rejects(embed("none"), refusedWith("MODEL_NOT_FOUND"));
      await assert.rejects(embed("two", 7), refusedWith("MODEL_NOT_FOUND"));
      await assert.rejects(embed("two", 1), refusedWith("MODEL_NOT_LOADED"));
      const newest = await embed("two");
      await all.registry.load({ name: "two", version: 1 });
      const older = await embed("two", 1);
      assert.notDeepEqual(older.outcomes, newest.outcomes);
      assert.deepEqual([newest.model.version, older.model.version], [2, 1]);
    } finally {
      await all.close();
    }
  });

  test("falls back to the version before one that is broken, and lists why", async () => {
    const broken = await writeTinyBundle(folder, "fragile", 1);
    assert.equal(broken.manifest.version, 1);
    const newest = await writeTinyBundle(folder, "fragile", 2);
    await writeFile(join(newest.folder, "encoder.onnx"), "damaged");
    const all = await openAll(folder);
    try {
      assert.equal(all.registry.activeVersion("fragile")?.version, 1);
      const facts = all.registry.describe({ name: "fragile", version: 2 });
      assert.deepEqual(
        [facts.state, facts.error?.code],
        ["failed", "MANIFEST_INVALID"],
      );
    } finally {
      await all.close();
    }
  });

  test("says that no model is active where the folder is empty", async () => {
    const all = await openAll(join(folder, "nothing"));
    try {
      await assert.rejects(
        all.inference.embed([{ raw: rawCrop(1) }]),
        refusedWith("NO_ACTIVE_MODEL"),
      );
    } finally {
      await all.close();
    }
  });
});

describe("InferencePool", () => {
  test("fails a load that the engine refuses, and goes on with other encoders", async () => {
    const folder = await mkdtemp(join(tmpdir(), "reid-pool-"));
    const { folder: bundle } = await writeTinyBundle(folder);
    const pool = new InferencePool({
      workers: 2,
      threads: 1,
      maxBatch: 4,
      device: "cpu",
      log: silentLog,
    });
    try {
      const wrong = join(folder, "wrong.onnx");
      await writeFile(wrong, "no encoder");
      const encoder = { key: "a/1", path: wrong, ...tiny };
      await assert.rejects(
        pool.load(encoder),
        refusedWith("ENGINE_UNAVAILABLE"),
      );
      const good = {
        ...encoder,
        key: "b/1",
        path: join(bundle, "encoder.onnx"),
      };
      assert.equal(await pool.load(good), "cpu");
      await assert.rejects(
        pool.load({ ...good, key: "c/1", dimension: 13 }),
        refusedWith("SHAPE"),
      );
      const crop = new Uint8Array(tiny.heightPx * tiny.widthPx * 3);
      const { features } = await pool.run("b/1", [crop, crop]);
      assert.equal(features.length, 2 * tiny.dimension);
      assert.deepEqual(pool.states(), ["idle", "idle"]);
    } finally {
      await pool.close();
      await rm(folder, { recursive: true });
    }
    await assert.rejects(pool.run("b/1", []), refusedWith("CLOSED"));
  });

  test("replaces a worker that dies, tries its batch again and keeps its encoders", async () => {
    const folder = await mkdtemp(join(tmpdir(), "reid-pool-"));
    const { folder: bundle } = await writeTinyBundle(folder);
    const pool = new InferencePool({
      workers: 1,
      threads: 1,
      maxBatch: 4,
      device: "cpu",
      log: silentLog,
    });
    try {
      await pool.load({
        key: "b/1",
        path: join(bundle, "encoder.onnx"),
        ...tiny,
      });
      const crop = new Uint8Array(tiny.heightPx * tiny.widthPx * 3).fill(9);
      const first = await pool.run("b/1", [crop]);
      const running = pool.run("b/1", [crop]);
      await pool.killWorker(0);
      assert.deepEqual((await running).features, first.features);
      assert.deepEqual(pool.states(), ["idle"]);
    } finally {
      await pool.close();
      await rm(folder, { recursive: true });
    }
  });

  test("shares all cores out where the configuration does not say", () => {
    const { workers, threads } = planWorkers(0, 0);
    assert.ok(workers >= 1 && threads >= 1);
    assert.deepEqual(planWorkers(3, 2), { workers: 3, threads: 2 });
    assert.equal(
      silentTelemetry.observe("reid.workers", () => [])(),
      undefined,
    );
  });
});
