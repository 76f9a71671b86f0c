import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { randomStream } from "#core/random";
import { FaissIndex, faissMissing } from "#index/faiss";
import { trainedFrom, type IndexSpec } from "#index/index-kinds";

import { unitFeatures } from "../support/galleries.js";
import { filledIndex, idsFrom, indexSpecs } from "../support/index-kinds.js";

const skip = faissMissing()?.message ?? false;
const dimension = 16;
const count = 300;
const random = randomStream(21, "states");
const rows = unitFeatures(random, count, dimension);
const one = unitFeatures(random, 1, dimension);

/** Where an index of a state comes from. */
interface Source {
  readonly spec: IndexSpec;
  /** A trained index, saved. */
  readonly file: string;
  /** A path where nothing is yet. */
  readonly fresh: () => string;
}

/** An index in its state, and the call that put it there where one is under way. */
interface Entered {
  readonly index: FaissIndex;
  readonly underWay?: Promise<unknown>;
}

const loaded = ({ file }: Source): Promise<FaissIndex> => FaissIndex.load(file);

/** An index in the middle of a call. */
const during =
  (call: (index: FaissIndex, source: Source) => Promise<unknown>) =>
  async (source: Source): Promise<Entered> => {
    const index = await loaded(source);
    return { index, underWay: call(index, source) };
  };

type State =
  | "fresh"
  | "not trained"
  | "training"
  | "trained"
  | "loaded"
  | "mapped"
  | "adding"
  | "updating"
  | "removing"
  | "searching"
  | "compacting"
  | "saving"
  | "failed"
  | "closing"
  | "closed";

const states: Readonly<Record<State, (source: Source) => Promise<Entered>>> = {
  fresh: ({ spec }) =>
    Promise.resolve({ index: FaissIndex.create(spec, dimension) }),
  "not trained": async ({ spec }) => ({
    index: await filledIndex(spec, rows, dimension),
  }),
  training: async ({ spec }) => {
    const index = await filledIndex(spec, rows, dimension);
    return { index, underWay: index.train() };
  },
  trained: async ({ spec }) => {
    const index = await filledIndex(spec, rows, dimension);
    await index.train();
    return { index };
  },
  loaded: async (source) => ({ index: await loaded(source) }),
  mapped: async ({ file }) => ({
    index: await FaissIndex.load(file, { mmap: true }),
  }),
  adding: during((index) => index.add(Float64Array.of(900), one)),
  updating: during((index) => index.update(Float64Array.of(7), one)),
  removing: during((index) => index.remove(Float64Array.of(8))),
  searching: during((index) => index.search(rows, { k: 5 })),
  compacting: async (source) => {
    const index = await loaded(source);
    await index.remove(Float64Array.of(9));
    return { index, underWay: index.compact() };
  },
  saving: during((index, { fresh }) => index.save(fresh())),
  // Every call that can fail has failed.
  failed: async ({ spec }) => {
    const index = await filledIndex(spec, rows, dimension);
    const calls = [
      index.add(Float64Array.of(3), one),
      index.update(Float64Array.of(4, 4), new Float32Array(2 * dimension)),
      index.remove(Float64Array.of(-1)),
      index.search(new Float32Array(dimension).fill(NaN), { k: 1 }),
      index.train(one.map(() => NaN)),
      index.save("/nowhere/at/all"),
      index.features(Float64Array.of(0.5)),
    ];
    for (const call of await Promise.allSettled(calls))
      assert.equal(call.status, "rejected");
    return { index };
  },
  closing: async (source) => {
    const index = await loaded(source);
    const searching = index.search(rows, { k: 5 });
    return { index, underWay: Promise.all([index.close(), searching]) };
  },
  closed: async (source) => {
    const index = await loaded(source);
    await index.close();
    return { index };
  },
};

type Method =
  | "add"
  | "update"
  | "train"
  | "train on features"
  | "remove"
  | "search"
  | "search exactly"
  | "search filtered"
  | "search stopped"
  | "ids"
  | "features"
  | "compact"
  | "save"
  | "facts"
  | "spec"
  | "close";

const methods: Readonly<
  Record<Method, (index: FaissIndex, source: Source) => Promise<unknown>>
> = {
  add: (index) => index.add(Float64Array.of(990), one),
  update: (index) => index.update(Float64Array.of(1, 991), twice(one)),
  train: (index) => index.train(),
  "train on features": (index) => index.train(rows),
  remove: (index) => index.remove(Float64Array.of(2, 992)),
  search: (index) => index.search(twice(one), { k: 3 }),
  "search exactly": (index) => index.search(one, { k: 3, mode: "exact" }),
  "search filtered": (index) =>
    index.search(one, { k: 3, filter: { mode: "except", ids: idsFrom(0, 9) } }),
  "search stopped": async (index) => {
    const aborting = new AbortController();
    const search = index.search(rows, { k: 3, signal: aborting.signal });
    aborting.abort();
    // It may have been done before.
    await search.catch((error: unknown) => {
      if ((error as { code?: unknown }).code !== "CANCELLED") throw error;
    });
  },
  ids: (index) => index.ids(),
  features: (index) => index.features(Float64Array.of(3, 993)),
  compact: (index) => index.compact(),
  save: async (index, { fresh }) => {
    const path = fresh();
    await index.save(path);
    const again = await FaissIndex.load(path);
    assert.deepEqual(again.spec, index.spec);
    await again.close();
  },
  facts: (index) => index.facts(),
  spec: (index) => Promise.resolve([index.spec, index.dimension]),
  close: (index) => index.close(),
};

function twice(row: Float32Array): Float32Array {
  return Float32Array.of(...row, ...row);
}

type Refused = Partial<Readonly<Record<Method, string>>>;

const ended: Refused = Object.fromEntries(
  Object.keys(methods)
    .filter((method) => method !== "spec" && method !== "close")
    .map((method) => [method, "CLOSED"]),
);

/** The code of each method that is refused in a state; the others work. */
const refused: Readonly<Record<State, (spec: IndexSpec) => Refused>> = {
  // There is nothing yet to train on.
  fresh: (spec) => (trainedFrom(spec) > 0 ? { train: "SHAPE" } : {}),
  "not trained": () => ({}),
  training: () => ({}),
  trained: () => ({}),
  loaded: () => ({}),
  mapped: () => ({
    add: "INDEX_FAILED",
    update: "INDEX_FAILED",
    remove: "INDEX_FAILED",
    save: "INDEX_FAILED",
  }),
  adding: () => ({}),
  updating: () => ({}),
  removing: () => ({}),
  searching: () => ({}),
  compacting: () => ({}),
  saving: () => ({}),
  failed: () => ({}),
  closing: () => ended,
  closed: () => ended,
};

/** Holds an index that is open to what it must hold: facts, ids and features tell one story, and a search finds it. */
async function isWhole(index: FaissIndex): Promise<void> {
  const [{ count: held, error }, ids] = await Promise.all([
    index.facts(),
    index.ids(),
  ]);
  assert.equal(ids.length, held);
  assert.equal(new Set(ids).size, held);
  if (held === 0) return;
  const id = ids[held >> 1];
  const feature = await index.features(Float64Array.of(id));
  const found = await index.search(feature, { k: 1, mode: "exact" });
  const similarity = feature.reduce((sum, value) => sum + value * value, 0);
  assert.ok(found.similarities[0] >= similarity - error - 1e-5);
  assert.ok(ids.includes(found.ids[0]));
}

/** Files below a folder that this process has open. */
function openFiles(folder: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((descriptor) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${descriptor}`);
      return path.startsWith(folder) ? [path] : [];
    } catch {
      return []; // the one that read the list
    }
  });
}

for (const [name, spec] of Object.entries(indexSpecs)) {
  describe(`every method of an index ${name}`, { skip }, () => {
    let source: Source;
    let folder: string;
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), "reid-test-"));
      const file = join(folder, "trained");
      const index = await filledIndex(spec, rows, dimension);
      await index.train();
      await index.save(file);
      await index.close();
      let files = 0;
      const fresh = (): string => join(folder, `saved-${files++}`);
      source = { spec, file, fresh };
    });
    after(() => rm(folder, { recursive: true }));

    for (const state of Object.keys(states) as State[]) {
      if (state === "mapped" && spec.kind !== "ivf") continue;
      test(`works or is refused by its code, when ${state}`, async () => {
        const codes = refused[state](spec);
        for (const method of Object.keys(methods) as Method[]) {
          const { index, underWay } = await states[state](source);
          const called = methods[method](index, source);
          const failure = await called.then(
            () => undefined,
            (error: unknown) => (error as { code?: unknown }).code,
          );
          assert.equal(failure, codes[method], method);
          await underWay;
          const isClosed = codes === ended || method === "close";
          if (!isClosed) await isWhole(index);
          await index.close();
        }
        assert.deepEqual(openFiles(folder), []);
      });
    }
  });
}
