import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { ClosedError } from "#core/errors";
import { silentLog } from "#core/log";
import { InferencePool } from "#serve/inference-pool";
import { ModelRegistry } from "#serve/registry";
import { writeTinyBundle } from "../support/tiny-bundle.js";

const older = { name: "door", version: 1 };

/** Ways into a state that lasts until what is returned has settled. */
const states: Readonly<
  Record<string, (registry: ModelRegistry) => Promise<unknown>>
> = {
  open: () => Promise.resolve(),
  loading: (registry) => registry.load(older),
  refreshing: (registry) => registry.refresh(),
  closing: (registry) =>
    Promise.all([registry.load(older), registry.refresh(), registry.close()]),
  closed: (registry) => registry.close(),
};

/** States in which the registry takes no more calls. */
const endedStates: ReadonlySet<string> = new Set(["closing", "closed"]);

const methods: Readonly<Record<string, (registry: ModelRegistry) => unknown>> =
  {
    names: (registry) => registry.names(),
    defaultModel: (registry) => registry.defaultModel,
    activeVersion: (registry) => registry.activeVersion("door"),
    "activeVersion of the default model": (registry) =>
      registry.activeVersion(),
    list: (registry) => registry.list(),
    describe: (registry) => registry.describe(older),
    "describe the active version": (registry) => registry.describe(),
    resolve: (registry) => registry.resolve({ name: "door" }),
    load: (registry) => registry.load(older),
    "load what is loaded": (registry) =>
      registry.load({ name: "door", version: 2 }),
    refresh: (registry) => registry.refresh(),
  };

let folder: string;
let pool: InferencePool;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "registry-"));
  for (const seed of [1, 2]) await writeTinyBundle(folder, "door", seed);
  const settings = { workers: 1, threads: 1, maxBatch: 1 };
  pool = new InferencePool({ ...settings, device: "cpu", log: silentLog });
});
after(async () => {
  await pool.close();
  await rm(folder, { recursive: true });
});

const open = () =>
  ModelRegistry.open({ folder, pool, clock: systemClock, log: silentLog });

describe("ModelRegistry, every method in every state", () => {
  for (const [state, enter] of Object.entries(states)) {
    const isEnded = endedStates.has(state);
    test(`${isEnded ? "refuses" : "allows"} every method while ${state}`, async () => {
      for (const [name, call] of Object.entries(methods)) {
        const registry = await open();
        const entered = enter(registry);
        if (state === "closed") await entered;
        const called = Promise.resolve().then(() => call(registry));
        if (isEnded) await assert.rejects(called, ClosedError, name);
        else
          await called.catch((error: unknown) =>
            assert.fail(`${name} while ${state}: ${String(error)}`),
          );
        await entered;
        await registry.close();
        await registry.close();
      }
    });
  }
});

describe("ModelRegistry", () => {
  test("has ended the loads under way when close returns", async () => {
    const registry = await open();
    let isLoaded = false;
    const loaded = registry.load(older).then(() => (isLoaded = true));
    await registry.close();
    // The callers' own continuations are all that is left.
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(isLoaded);
    await loaded;
  });

  test("closes though a load under way fails", async () => {
    const registry = await open();
    const failed = assert.rejects(registry.load({ name: "door", version: 9 }), {
      code: "MODEL_NOT_FOUND",
    });
    await registry.close();
    await failed;
  });
});
