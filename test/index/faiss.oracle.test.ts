import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { dot } from "#core/vectors";
import { ExactIndex } from "#index/exact";
import { FaissIndex, faissMissing } from "#index/faiss";
import { hnswDefaults } from "#index/index-kinds";
import { idTest, type IdFilter, type VectorIndex } from "#index/vector-index";

import { unitFeatures } from "../support/galleries.js";

// Another order of addition than the double loop's: float32 over 48 products.
const tolerance = 1e-6;
const dimension = 48;
const count = 600;

const makers: Readonly<Record<string, () => VectorIndex>> = {
  "faiss flat": () => FaissIndex.create({ kind: "flat" }, dimension),
  "faiss hnsw, exact": () => FaissIndex.create(hnswDefaults, dimension),
  onnxruntime: () => new ExactIndex({ kind: "flat" }, dimension),
};

function bruteForce(
  features: ReadonlyMap<number, Float32Array>,
  query: Float32Array,
  k: number,
): { id: number; similarity: number }[] {
  return [...features]
    .map(([id, feature]) => ({ id, similarity: dot(query, feature) }))
    .sort((a, b) => b.similarity - a.similarity)
    .slice(0, k);
}

/** A bitmap over ids from 0. */
function bitsOf(ids: Float64Array): Uint32Array<ArrayBuffer> {
  const bitmap = new Uint32Array(Math.ceil((Math.max(...ids) + 1) / 32));
  for (const id of ids) bitmap[id >>> 5] |= 1 << (id & 31);
  return bitmap;
}

for (const [name, make] of Object.entries(makers)) {
  const skip = name.startsWith("faiss") && (faissMissing()?.message ?? false);
  describe(`exact search by ${name}`, { skip }, () => {
    test("finds what a double loop finds, under every filter and after removals", async () => {
      const random = randomStream(3, "oracle");
      const rows = unitFeatures(random, count, dimension);
      const ids = Float64Array.from({ length: count }, (_, i) => i * 7 + 1);
      const features = new Map(
        [...ids].map((id, i) => [
          id,
          rows.subarray(i * dimension, (i + 1) * dimension),
        ]),
      );
      const index = make();
      await index.add(ids.subarray(0, 100), rows.subarray(0, 100 * dimension));
      await index.add(ids.subarray(100), rows.subarray(100 * dimension));
      const removed = Float64Array.from(ids.filter((_, i) => i % 5 === 2));
      assert.equal(await index.remove(removed), removed.length);
      assert.equal(await index.remove(removed), 0);
      for (const id of removed) features.delete(id);

      const some = Float64Array.from(ids.filter((_, i) => i % 3 === 0));
      const filters: readonly (IdFilter | undefined)[] = [
        undefined,
        { mode: "only", ids: some },
        { mode: "except", ids: some },
        { mode: "only", ids: Float64Array.of(1, 8, 999_999) },
        { mode: "except", ids },
        // Far apart: no bitmap is made of them.
        { mode: "only", ids: Float64Array.of(2 ** 52, ids[9], 2 ** 53 - 1) },
        { mode: "only", bitmap: bitsOf(some), firstId: 0 },
        { mode: "except", bitmap: bitsOf(some), firstId: 0 },
        {
          mode: "only",
          bitmap: new Uint8Array(bitsOf(some).buffer, 13, 300),
          firstId: 13 * 8,
        },
        { mode: "except", bitmap: new Uint32Array(0), firstId: 2 ** 53 - 1 },
        { mode: "only", bitmap: new Uint32Array(0), firstId: 0 },
      ];
      const queries = unitFeatures(random, 9, dimension);
      for (const filter of filters) {
        const isListed = filter === undefined ? undefined : idTest(filter);
        const allowed = new Map(
          [...features].filter(
            ([id]) =>
              isListed === undefined ||
              isListed(id) === (filter?.mode === "only"),
          ),
        );
        for (const k of [1, 10, 700]) {
          const found = await index.search(queries, {
            k,
            mode: "exact",
            ...(filter === undefined ? {} : { filter }),
          });
          assert.equal(found.exact, true);
          for (let q = 0; q < 9; q++) {
            const query = queries.subarray(q * dimension, (q + 1) * dimension);
            const expected = bruteForce(allowed, query, k);
            const got = [...found.ids.subarray(q * k, (q + 1) * k)].filter(
              (id) => id >= 0,
            );
            assert.equal(got.length, expected.length);
            got.forEach((id, i) => {
              const similarity = found.similarities[q * k + i];
              const own = features.get(id);
              assert.ok(own !== undefined);
              assert.ok(Math.abs(similarity - dot(query, own)) < tolerance);
              assert.ok(
                Math.abs(similarity - expected[i].similarity) < tolerance,
              );
            });
          }
        }
      }
      await index.close();
    });
  });
}

describe("HNSW search", { skip: faissMissing()?.message ?? false }, () => {
  test("finds nine in ten of the nearest, before and after compaction, and only live ids", async () => {
    const random = randomStream(5, "recall");
    const rows = unitFeatures(random, 3000, dimension);
    const ids = Float64Array.from({ length: 3000 }, (_, i) => i);
    const index = FaissIndex.create(hnswDefaults, dimension);
    await index.add(ids, rows);
    const dead = Float64Array.from(ids.filter((id) => id % 3 === 0));
    await index.remove(dead);
    const queries = unitFeatures(random, 30, dimension);
    for (const round of ["tombstones", "compacted"]) {
      if (round === "compacted") await index.compact();
      const exact = await index.search(queries, { k: 10, mode: "exact" });
      const found = await index.search(queries, { k: 10 });
      assert.equal(found.exact, false);
      assert.ok(found.ids.every((id) => id >= 0 && id % 3 !== 0));
      let shared = 0;
      for (let q = 0; q < 30; q++) {
        const expected = new Set(exact.ids.subarray(q * 10, q * 10 + 10));
        for (const id of found.ids.subarray(q * 10, q * 10 + 10))
          if (expected.has(id)) shared++;
      }
      assert.ok(shared / 300 >= 0.9, `${round}: recall ${shared / 300}`);
    }
    assert.deepEqual((await index.facts()).tombstones, 0);
    await index.close();
  });
});
