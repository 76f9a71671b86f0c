import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";

import { ReidError } from "#core/errors";
import { loadAddon } from "#core/native-addon";
import { randomStream } from "#core/random";
import {
  distanceKernels,
  FaissIndex,
  faissMissing,
  kernelInnerProduct,
  kernelSquaredDistance,
  setIndexThreads,
  useDistanceKernel,
} from "#index/faiss";
import type { IndexSpec } from "#index/index-kinds";

import { inFolder, unitFeatures } from "../support/galleries.js";
import { filledIndex, idsFrom, indexSpecs } from "../support/index-kinds.js";

const skip = faissMissing()?.message ?? false;
const dimension = 16;
const count = 300;
const random = randomStream(22, "arguments");
const rows = unitFeatures(random, count, dimension);
const one = unitFeatures(random, 1, dimension);
const wrong = (value: unknown): never => value as never;

function detached<Kind extends Float32Array | Float64Array>(array: Kind): Kind {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
}

/** The same numbers over memory that threads share. */
function shared(values: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(values.byteLength));
  copy.set(values);
  return copy;
}

/** The same numbers over a buffer that was made larger since, which an array without a length of its own follows. */
function resizable(values: Float32Array): {
  readonly array: Float32Array;
  resize(bytes: number): void;
} {
  // ES2024, which the compiler's library does not know yet; Node 20 has it.
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: { readonly maxByteLength: number },
  ) => ArrayBuffer & { resize(bytes: number): void };
  const buffer = new Resizable(4, { maxByteLength: 4 * values.byteLength });
  const array = new Float32Array(buffer);
  buffer.resize(values.byteLength);
  array.set(values);
  return {
    array,
    resize: (bytes) => {
      buffer.resize(bytes);
    },
  };
}

const notArrays: readonly unknown[] = [
  undefined,
  null,
  true,
  7,
  7n,
  "7",
  Symbol("7"),
  [7],
  {},
  () => 7,
  new ArrayBuffer(64),
  new DataView(new ArrayBuffer(64)),
  new Int32Array(16),
  new Uint8Array(64),
  new BigInt64Array(16),
  new Proxy(new Float32Array(16), {}),
  new Proxy(new Float64Array(1), {}),
];
const notIds: readonly unknown[] = [...notArrays, new Float32Array(1)];
const notFeatures: readonly unknown[] = [
  ...notArrays,
  new Float64Array(dimension),
];
const badIds = [NaN, Infinity, -Infinity, -1, 0.5, 2 ** 53, 1e300];
const badNumbers = [NaN, Infinity, -Infinity, 2e16, -3.4e38];
const notWhole: readonly unknown[] = [
  NaN,
  Infinity,
  -1,
  0.5,
  2 ** 31,
  2 ** 53,
  1e300,
  "1",
  1n,
  null,
  {},
  [1],
  true,
];

type Call = (index: FaissIndex) => Promise<unknown>;

/** Every wrong argument of every method that takes one; all of them are SHAPE. */
function* wrongCalls(): Generator<readonly [what: string, call: Call]> {
  for (const write of ["add", "update"] as const) {
    for (const ids of notIds)
      yield [`${write} ids`, (index) => index[write](wrong(ids), one)];
    for (const features of notFeatures)
      yield [
        `${write} features`,
        (index) => index[write](Float64Array.of(900), wrong(features)),
      ];
    for (const id of badIds)
      yield [
        `${write} id ${id}`,
        (index) =>
          index[write](
            Float64Array.of(901, id),
            rows.subarray(0, 2 * dimension),
          ),
      ];
    for (const bad of badNumbers)
      yield [
        `${write} number ${bad}`,
        (index) => index[write](Float64Array.of(902), one.with(3, bad)),
      ];
    for (const length of [0, 1, dimension - 1, dimension + 1, 2 * dimension])
      yield [
        `${write} ${length} numbers`,
        (index) => index[write](Float64Array.of(903), rows.subarray(0, length)),
      ];
    yield [
      `${write} an id twice`,
      (index) =>
        index[write](
          Float64Array.of(904, 904),
          rows.subarray(0, 2 * dimension),
        ),
    ];
    yield [
      `${write} detached ids`,
      (index) => index[write](detached(Float64Array.of(905)), one),
    ];
    yield [
      `${write} detached features`,
      (index) => index[write](Float64Array.of(906), detached(one.slice())),
    ];
    yield [
      `${write} nothing, detached`,
      (index) =>
        index[write](detached(new Float64Array(1)), detached(one.slice())),
    ];
  }
  yield ["add an id there is", (index) => index.add(Float64Array.of(3), one)];

  for (const ids of [...notIds, detached(Float64Array.of(1))]) {
    yield ["remove", (index) => index.remove(wrong(ids))];
    yield ["features", (index) => index.features(wrong(ids))];
  }
  for (const id of badIds) {
    yield [`remove ${id}`, (index) => index.remove(Float64Array.of(1, id))];
    yield [`features ${id}`, (index) => index.features(Float64Array.of(1, id))];
  }

  for (const features of notFeatures.filter((value) => value !== undefined))
    yield ["train", (index) => index.train(wrong(features))];
  for (const length of [0, 1, dimension + 1])
    yield [
      `train on ${length} numbers`,
      (index) => index.train(rows.subarray(0, length)),
    ];
  for (const bad of badNumbers)
    yield [`train on ${bad}`, (index) => index.train(rows.with(8, bad))];
  yield ["train on detached", (index) => index.train(detached(rows.slice()))];

  for (const queries of notFeatures)
    yield ["queries", (index) => index.search(wrong(queries), { k: 1 })];
  for (const length of [0, 1, dimension - 1, dimension + 1])
    yield [
      `search ${length} numbers`,
      (index) => index.search(rows.subarray(0, length), { k: 1 }),
    ];
  for (const bad of badNumbers)
    yield [
      `search ${bad}`,
      (index) => index.search(one.with(0, bad), { k: 1 }),
    ];
  yield [
    "search detached",
    (index) => index.search(detached(one.slice()), { k: 1 }),
  ];
  for (const k of [...notWhole, 0, undefined])
    yield [`k ${String(k)}`, (index) => index.search(one, { k: wrong(k) })];
  yield [
    "more hits than memory is for",
    (index) => index.search(rows, { k: 1_000_000 }),
  ];
  for (const effort of notWhole)
    yield [
      `effort ${String(effort)}`,
      (index) => index.search(one, { k: 1, effort: wrong(effort) }),
    ];
  for (const mode of ["", "all", undefined, null, 1])
    yield [
      `filter mode ${mode}`,
      (index) =>
        index.search(one, {
          k: 1,
          filter: { mode: wrong(mode), ids: idsFrom(0, 1) },
        }),
    ];
  for (const ids of [...notIds, detached(Float64Array.of(1))])
    yield [
      "filter ids",
      (index) =>
        index.search(one, { k: 1, filter: { mode: "only", ids: wrong(ids) } }),
    ];
  for (const id of badIds)
    yield [
      `filter id ${id}`,
      (index) =>
        index.search(one, {
          k: 1,
          filter: { mode: "except", ids: Float64Array.of(1, id) },
        }),
    ];
  for (const firstId of [
    ...notWhole.filter((id) => id !== 2 ** 31),
    -1,
    2 ** 53,
  ])
    yield [
      `first id ${String(firstId)}`,
      (index) =>
        index.search(one, {
          k: 1,
          filter: {
            mode: "only",
            bitmap: new Uint8Array(4),
            firstId: wrong(firstId),
          },
        }),
    ];
  const bitmap = new Uint8Array(4);
  structuredClone(bitmap.buffer, { transfer: [bitmap.buffer] });
  yield [
    "a detached bitmap",
    (index) =>
      index.search(one, { k: 1, filter: { mode: "only", bitmap, firstId: 0 } }),
  ];

  for (const path of [undefined, null, 7, {}, ["a"], Symbol("a"), "a\0b"])
    yield ["save", (index) => index.save(wrong(path))];
}

/** What an index answers, so far as it can differ. */
async function answers(index: FaissIndex): Promise<unknown> {
  const ids = await index.ids();
  return {
    facts: await index.facts(),
    ids: ids.sort(),
    features: await index.features(ids),
    found: await index.search(rows.subarray(0, 5 * dimension), { k: 9 }),
  };
}

for (const [name, spec] of Object.entries(indexSpecs))
  describe(`arguments of an index ${name}`, { skip }, () => {
    for (const isTrained of [false, true])
      test(`are refused where they are wrong, and change nothing, ${isTrained ? "trained" : "not trained"}`, async () => {
        const index = await filledIndex(spec, rows, dimension);
        if (isTrained) await index.train();
        const untouched = await answers(index);
        for (const [what, call] of wrongCalls()) {
          await assert.rejects(
            () => call(index),
            (error) => error instanceof ReidError && error.code === "SHAPE",
            what,
          );
        }
        assert.deepEqual(await answers(index), untouched);
        await index.close();
      });

    test("are read from shared and from resizable memory", async () => {
      const index = await filledIndex(spec, rows, dimension);
      await index.train();
      const other = await filledIndex(spec, shared(rows), dimension);
      await other.train(shared(rows));
      assert.deepEqual(await answers(other), await answers(index));
      const { array, resize } = resizable(one);
      const expected = await index.search(one, { k: 4 });
      const search = index.search(array, { k: 4 });
      resize(0);
      assert.deepEqual(await search, expected);
      await assert.rejects(index.search(array, { k: 4 }), { code: "SHAPE" });
      const bits = new Uint8Array(new SharedArrayBuffer(40)).fill(0b1010);
      const set = { firstId: 0, mode: "only" } as const;
      assert.deepEqual(
        await index.search(shared(one), {
          k: 4,
          filter: { ...set, bitmap: bits },
        }),
        await index.search(one, {
          k: 4,
          filter: { ...set, bitmap: bits.slice() },
        }),
      );
      await Promise.all([index.close(), other.close()]);
    });

    test("are the caller's again at once: what is changed or detached under a call changes nothing", async () => {
      const lasting = await filledIndex(spec, rows, dimension);
      const index = FaissIndex.create(spec, dimension);
      const ids = idsFrom(0, count);
      const features = rows.slice();
      const spoil = (
        ...arrays: readonly (Float32Array | Float64Array | Uint8Array)[]
      ): void => {
        for (const array of arrays) array.fill(NaN);
        detached(arrays[0] as Float32Array);
      };
      const spoiled = async (
        call: Promise<unknown>,
        ...arrays: readonly (Float32Array | Float64Array | Uint8Array)[]
      ): Promise<unknown> => {
        spoil(...arrays);
        return call;
      };
      await spoiled(index.add(ids, features), ids, features);
      const learned = rows.slice();
      await Promise.all([
        lasting.train(rows),
        spoiled(index.train(learned), learned),
      ]);
      const [changed, values] = [
        Float64Array.of(5, 6),
        rows.slice(0, 2 * dimension),
      ];
      await lasting.update(changed, values);
      await spoiled(index.update(changed, values), values, changed);
      const gone = Float64Array.of(7, 8);
      await lasting.remove(gone);
      await spoiled(index.remove(gone), gone);
      const asked = Float64Array.of(9, 10);
      assert.deepEqual(
        await lasting.features(asked),
        await spoiled(index.features(asked), asked),
      );
      const queries = rows.slice(0, 64 * dimension);
      const set = idsFrom(0, 200);
      const filter = { mode: "only", ids: set } as const;
      const expected = await lasting.search(queries, { k: 5, filter });
      assert.deepEqual(
        await spoiled(index.search(queries, { k: 5, filter }), queries, set),
        expected,
      );
      assert.deepEqual(await answers(index), await answers(lasting));
      await Promise.all([index.close(), lasting.close()]);
    });
  });

describe("making an index", { skip }, () => {
  const flat = { kind: "flat" } as const;
  const hnsw = { kind: "hnsw", m: 8, efConstruction: 8, efSearch: 8 } as const;
  const ivf = { kind: "ivf", lists: 8, probes: 4 } as const;
  const specs: readonly (readonly [unknown, unknown])[] = [
    ...[
      NaN,
      Infinity,
      -1,
      0,
      0.5,
      65537,
      2 ** 53,
      "8",
      null,
      undefined,
      {},
      8n,
    ].map((value) => [flat, value] as const),
    ...["", "HNSW", "flat\0", 1, null, undefined, {}].map(
      (kind) => [{ kind }, 8] as const,
    ),
    ...["", "f64", "product", 1, {}].map(
      (storage) => [{ ...flat, storage }, 8] as const,
    ),
    ...(["m", "efConstruction", "efSearch"] as const).flatMap((name) =>
      [NaN, -1, 0, 0.5, 2 ** 40, "8", null].map(
        (value) => [{ ...hnsw, [name]: value }, 8] as const,
      ),
    ),
    ...(["lists", "probes"] as const).flatMap((name) =>
      [NaN, -1, 0.5, 65537, "8", null].map(
        (value) => [{ ...ivf, [name]: value }, 8] as const,
      ),
    ),
    ...[
      { segments: 3, bits: 8 },
      { segments: -1, bits: 8 },
      { segments: 16, bits: 8 },
      { segments: 2, bits: 9 },
      { segments: 2, bits: 0 },
      { segments: 2, bits: NaN },
    ].map((pq) => [{ ...ivf, pq }, 8] as const),
  ];
  test("refuses every number, name and storage that means nothing", () => {
    for (const [spec, d] of specs) {
      assert.throws(
        () => FaissIndex.create(spec as IndexSpec, wrong(d)),
        { code: "SHAPE" },
        `${JSON.stringify(spec)} ${String(d)}`,
      );
    }
  });
});

describe("loading an index", { skip }, () => {
  test("refuses what is no file of one, and waits for nothing", () =>
    inFolder(async (folder) => {
      await mkdir(join(folder, "folder"));
      execFileSync("mkfifo", [join(folder, "pipe")]);
      for (const [path, code] of [
        [undefined, "SHAPE"],
        [null, "SHAPE"],
        [7, "SHAPE"],
        ["a\0b", "SHAPE"],
        ["", "INDEX_FAILED"],
        [join(folder, "nothing"), "INDEX_FAILED"],
        [join(folder, "folder"), "INDEX_FAILED"],
        [join(folder, "pipe"), "INDEX_FAILED"],
        ["/dev/null", "INDEX_FAILED"],
        ["/dev/zero", "INDEX_FAILED"],
        [import.meta.filename, "SNAPSHOT_CORRUPT"],
      ] as const)
        for (const mmap of [false, true])
          await assert.rejects(
            FaissIndex.load(wrong(path), { mmap }),
            { code },
            String(path),
          );
    }));

  test("maps the lists of a trained ivf index only", () =>
    inFolder(async (folder) => {
      for (const [name, spec] of Object.entries(indexSpecs))
        for (const isTrained of [false, true]) {
          const index = await filledIndex(spec, rows, dimension);
          if (isTrained) await index.train();
          const path = join(folder, `${name} ${isTrained}`);
          await index.save(path);
          await assert.rejects(index.save(path), { code: "INDEX_FAILED" });
          await index.close();
          const mapping = FaissIndex.load(path, { mmap: true });
          if (spec.kind === "ivf" && isTrained) await (await mapping).close();
          else await assert.rejects(mapping, { code: "SHAPE" });
        }
    }));
});

describe("the addon's functions", { skip }, () => {
  test("refuse what they cannot use", () => {
    const row = one.slice(0, 4);
    const calls: readonly (() => unknown)[] = [
      ...[NaN, -1, 0.5, 1025, "1", null].map((threads) => () => {
        setIndexThreads(wrong(threads), false);
      }),
      ...["", "sse", "avx512\0", 1, null, undefined].map(
        (name) => () => useDistanceKernel(wrong(name)),
      ),
      ...[
        null,
        undefined,
        [1, 2, 3, 4],
        new Float64Array(4),
        one,
        new DataView(row.buffer),
      ].flatMap((value) => [
        () => kernelInnerProduct(wrong(value), row),
        () => kernelInnerProduct(row, wrong(value)),
        () => kernelSquaredDistance(wrong(value), row),
        () => kernelSquaredDistance(row, wrong(value)),
      ]),
    ];
    const kernel = useDistanceKernel(distanceKernels()[0]);
    useDistanceKernel(kernel);
    for (const call of calls)
      assert.throws(call, { code: "SHAPE" }, String(call));
    assert.equal(useDistanceKernel(kernel), kernel);
  });
});

/** The addon as it is, without the classes in front of it. */
interface BareAddon {
  readonly Index: new (
    ...args: readonly unknown[]
  ) => Record<string, (...args: readonly unknown[]) => unknown>;
  readonly Stop: new () => { fire(): void };
}

describe("the addon itself", { skip }, () => {
  const bare = (): BareAddon => loadAddon("faiss") as BareAddon;
  const made = (): InstanceType<BareAddon["Index"]> =>
    new (bare().Index)("flat", 4, "f32", 8, 8, 8, 0, 0, 0, 8);
  const names = [
    ..."add update train remove search ids features compact save".split(" "),
    ..."facts describe close".split(" "),
  ];

  test("calls no method on what is not an index", () => {
    const { Index, Stop } = bare();
    const stop = new Stop();
    const receivers: readonly unknown[] = [
      undefined,
      null,
      1,
      "index",
      {},
      [],
      stop,
      Index,
      Index.prototype,
      Object.create(Index.prototype),
      Object.create(made()),
      new Proxy(made(), {}),
    ];
    for (const name of names)
      for (const receiver of receivers)
        assert.throws(
          () => Reflect.apply(Index.prototype[name], receiver, []),
          TypeError,
        );
    for (const receiver of [undefined, {}, made(), Object.create(stop)])
      assert.throws(
        () => Reflect.apply(Stop.prototype.fire, receiver, []),
        TypeError,
      );
    assert.throws(() => Reflect.apply(Index as never, {}, []), TypeError);
  });

  test("takes no other object for a stop, and nothing for an index that was loaded", async () => {
    const { Index, Stop } = bare();
    const index = made();
    const query = Float32Array.of(1, 0, 0, 0);
    for (const stop of [
      null,
      1,
      {},
      [],
      () => 1,
      index,
      Stop,
      Object.create(Stop.prototype),
      new Proxy(new Stop(), {}),
    ])
      assert.throws(
        () => index["search"](query, 1, true, 0, 0, undefined, 0, stop),
        { code: "SHAPE" },
      );
    for (const argument of [undefined, null, {}, index, new Stop()])
      assert.throws(() => new Index(argument), { code: "SHAPE" });
    const stop = new Stop();
    await index["search"](query, 1, true, 0, 0, undefined, 0, stop);
    stop.fire();
    await assert.rejects(
      index["search"](
        query,
        1,
        true,
        0,
        0,
        undefined,
        0,
        stop,
      ) as Promise<unknown>,
      { code: "CANCELLED" },
    );
    index["close"]();
    for (const name of names.filter((method) => method !== "close"))
      assert.throws(() => index[name](), { code: "CLOSED" });
    index["close"]();
  });
});
