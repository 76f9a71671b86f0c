import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { dot } from "#core/vectors";
import { FaissIndex, faissMissing } from "#index/faiss";
import { hnswDefaults, trainedFrom, type IndexSpec } from "#index/index-kinds";

import { inFolder, unitFeatures } from "../support/galleries.js";

const skip = faissMissing()?.message ?? false;
const dimension = 32;
const count = 900;
const hnsw = { ...hnswDefaults, m: 16, efConstruction: 64 };
const ivf = { kind: "ivf", lists: 8, probes: 4 } as const;
const specs: Readonly<Record<string, IndexSpec>> = {
  "flat in f16": { kind: "flat", storage: "f16" },
  "flat in int8": { kind: "flat", storage: "int8" },
  "hnsw in f16": { ...hnsw, storage: "f16" },
  "hnsw in int8": { ...hnsw, storage: "int8" },
  ivf,
  "ivf with lists of its own choice": { kind: "ivf", lists: 0, probes: 0 },
  "ivf in f16": { ...ivf, storage: "f16" },
  "ivf in int8": { ...ivf, storage: "int8" },
  "ivf with a product code of 8 bits": { ...ivf, pq: { segments: 8, bits: 8 } },
  "ivf with a product code of 4 bits": {
    ...ivf,
    pq: { segments: 16, bits: 4 },
  },
};

function rowOf(rows: Float32Array, i: number): Float32Array {
  return rows.subarray(i * dimension, (i + 1) * dimension);
}

function idsFrom(first: number, end: number): Float64Array {
  return Float64Array.from({ length: end - first }, (_, i) => first + i);
}

/** Searches exactly, and holds every similarity and every place to the features themselves. */
async function agrees(
  index: FaissIndex,
  held: ReadonlyMap<number, Float32Array>,
  queries: Float32Array,
): Promise<void> {
  const k = 10;
  const { ids, similarities, exact, error } = await index.search(queries, {
    k,
    mode: "exact",
  });
  assert.equal(exact, true);
  // Of float32 itself, which adds in another order.
  const room = error + 1e-6;
  for (let q = 0; q < queries.length / dimension; q++) {
    const query = rowOf(queries, q);
    const best = [...held.values()].map((feature) => dot(query, feature));
    best.sort((a, b) => b - a);
    for (let i = 0; i < k; i++) {
      const feature = held.get(ids[q * k + i]);
      assert.ok(feature !== undefined, `id ${ids[q * k + i]}`);
      const similarity = dot(query, feature);
      assert.ok(Math.abs(similarity - similarities[q * k + i]) <= room);
      assert.ok(similarity >= best[i] - 2 * room);
    }
  }
  assert.deepEqual(
    [...(await index.ids())].sort((a, b) => a - b),
    [...held.keys()].sort((a, b) => a - b),
  );
}

for (const [name, spec] of Object.entries(specs)) {
  describe(`index ${name}`, { skip }, () => {
    test("is exact before it is trained, and within its error afterwards, through every write", () =>
      inFolder(async (folder) => {
        const random = randomStream(11, name);
        const rows = unitFeatures(random, count + 100, dimension);
        const queries = unitFeatures(random, 7, dimension);
        const held = new Map<number, Float32Array>();
        const add = async (first: number, end: number): Promise<void> => {
          const features = rows.subarray(first * dimension, end * dimension);
          await index.add(idsFrom(first, end), features);
          for (let id = first; id < end; id++) held.set(id, rowOf(rows, id));
        };
        const remove = async (ids: readonly number[]): Promise<void> => {
          const there = ids.filter((id) => held.delete(id)).length;
          assert.equal(await index.remove(Float64Array.from(ids)), there);
        };
        let index = FaissIndex.create(spec, dimension);
        await add(0, 700);
        await remove([3, 4, 699, 5000]);
        const before = await index.facts();
        assert.equal(before.isTrained, trainedFrom(spec) === 0);
        if (!before.isTrained) {
          assert.equal(before.error, 0);
          await assert.rejects(index.train(rows.subarray(0, dimension)), {
            code: "SHAPE",
          });
        }
        await agrees(index, held, queries);

        await index.train();
        const trained = await index.facts();
        assert.equal(trained.isTrained, true);
        assert.equal(trained.count, 697);
        await agrees(index, held, queries);
        await add(700, count);
        await remove([7, 8, 701, 702, 899]);
        const changed = [10, 11, 705, 5];
        const fresh = unitFeatures(random, 5, dimension);
        await index.update(Float64Array.of(...changed, 2000), fresh);
        [...changed, 2000].forEach((id, i) => held.set(id, rowOf(fresh, i)));
        await agrees(index, held, queries);

        const path = join(folder, "index.faiss");
        await index.save(path);
        const again = await FaissIndex.load(path);
        assert.deepEqual(again.spec, index.spec);
        assert.deepEqual(again.spec, spec);
        const options = { k: 20 };
        assert.deepEqual(
          await again.search(queries, options),
          await index.search(queries, options),
        );
        await index.close();
        index = again;
        await index.compact();
        assert.equal((await index.facts()).tombstones, 0);
        await add(count, count + 100);
        await remove([2000, 20]);
        await agrees(index, held, queries);

        const stored = await index.features(Float64Array.of(12, 20));
        const { error } = await index.facts();
        const loss = Math.hypot(
          ...rowOf(stored, 0).map((x, i) => x - rowOf(rows, 12)[i]),
        );
        assert.ok(loss <= error + 1e-6, `${loss} > ${error}`);
        assert.ok(Number.isNaN(stored[dimension]));
        await index.close();
      }));

    test("finds most of the nearest, and only what a filter lets through", async () => {
      const random = randomStream(12, name);
      const rows = unitFeatures(random, count, dimension);
      const index = FaissIndex.create(spec, dimension);
      await index.add(idsFrom(0, count), rows);
      await index.train();
      const bitmap = new Uint8Array(Math.ceil(count / 8)).fill(0b01010101);
      for (const filter of [
        undefined,
        { mode: "only", bitmap, firstId: 0 } as const,
      ]) {
        const set = filter === undefined ? {} : { filter };
        const effort = index.spec.kind === "hnsw" ? 200 : 64;
        const k = 10;
        const [near, exact] = await Promise.all([
          index.search(rows, { k, effort, ...set }),
          index.search(rows, { k, mode: "exact", ...set }),
        ]);
        let shared = 0;
        for (let q = 0; q < count; q++) {
          const wanted = new Set(exact.ids.subarray(q * k, (q + 1) * k));
          for (const id of near.ids.subarray(q * k, (q + 1) * k)) {
            assert.ok(id >= 0 && (filter === undefined || id % 2 === 0));
            if (wanted.has(id)) shared++;
          }
        }
        assert.ok(shared / (k * count) > 0.9, `recall ${shared / (k * count)}`);
      }
      await index.close();
    });

    test("refuses a file with any byte changed, or cut anywhere", () =>
      inFolder(async (folder) => {
        const random = randomStream(13, name);
        const index = FaissIndex.create(spec, dimension);
        await index.add(idsFrom(0, 300), unitFeatures(random, 300, dimension));
        await index.train();
        const path = join(folder, "index.faiss");
        await index.save(path);
        await index.close();
        const whole = await readFile(path);
        const broken = join(folder, "broken");
        for (let at = 0; at < whole.length; at += 1 + (whole.length >> 6)) {
          const damaged = Buffer.from(whole);
          damaged[at] ^= 1 << (at % 8);
          await writeFile(broken, damaged);
          await assert.rejects(
            FaissIndex.load(broken),
            { code: "SNAPSHOT_CORRUPT" },
            `byte ${at}`,
          );
          await writeFile(broken, whole.subarray(0, at));
          await assert.rejects(FaissIndex.load(broken), {
            code: "SNAPSHOT_CORRUPT",
          });
        }
      }));
  });
}

describe("index whose lists stay in their file", { skip }, () => {
  test("answers as the one in memory, and cannot be written to", () =>
    inFolder(async (folder) => {
      const random = randomStream(14, "mmap");
      const rows = unitFeatures(random, count, dimension);
      const index = FaissIndex.create(ivf, dimension);
      await index.add(idsFrom(0, count), rows);
      const path = join(folder, "index.faiss");
      await index.save(path);
      await assert.rejects(FaissIndex.load(path, { mmap: true }), {
        code: "SHAPE",
      });
      await index.train();
      const trained = join(folder, "trained.faiss");
      await index.save(trained);
      const mapped = await FaissIndex.load(trained, { mmap: true });
      for (const mode of ["index", "exact"] as const)
        assert.deepEqual(
          await mapped.search(rows.subarray(0, 8 * dimension), { k: 9, mode }),
          await index.search(rows.subarray(0, 8 * dimension), { k: 9, mode }),
        );
      const refused = { code: "INDEX_FAILED" };
      const one = rows.subarray(0, dimension);
      await assert.rejects(mapped.add(Float64Array.of(5000), one), refused);
      await assert.rejects(mapped.update(Float64Array.of(1), one), refused);
      await assert.rejects(mapped.remove(Float64Array.of(1)), refused);
      await Promise.all([index.close(), mapped.close()]);
    }));
});
