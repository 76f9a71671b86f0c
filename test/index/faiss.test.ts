import assert from "node:assert/strict";
import { truncate, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import {
  distanceKernels,
  FaissIndex,
  faissMissing,
  kernelInnerProduct,
  kernelSquaredDistance,
  useDistanceKernel,
} from "#index/faiss";
import { hnswDefaults, type IndexSpec } from "#index/index-kinds";

import { inFolder, unitFeatures } from "../support/galleries.js";

const skip = faissMissing()?.message ?? false;
const specs: readonly IndexSpec[] = [
  { kind: "flat" },
  { ...hnswDefaults, m: 16, efConstruction: 64 },
];
const dimension = 24;
const random = randomStream(7, "faiss test");

function idsTo(count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => i);
}

async function filled(spec: IndexSpec, count: number): Promise<FaissIndex> {
  const index = FaissIndex.create(spec, dimension);
  await index.add(idsTo(count), unitFeatures(random, count, dimension));
  return index;
}

/** IEEE 754 binary16, by its definition. */
function floatFromHalf(bits: number): number {
  const sign = bits >> 15 === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return exponent === 0
    ? sign * fraction * 2 ** -14
    : sign * (1 + fraction) * 2 ** (exponent - 15);
}

describe("distance kernels", { skip }, () => {
  test("give the same bits on every clone this processor has", () => {
    const own = distanceKernels().filter((name) => name !== "faiss");
    const before = useDistanceKernel(own[0]);
    try {
      for (const d of [1, 3, 15, 16, 17, 63, 64, 65, 127, 512, 2048, 4096]) {
        const [x, y] = [unitFeatures(random, 1, d), unitFeatures(random, 1, d)];
        for (const kernel of [kernelInnerProduct, kernelSquaredDistance]) {
          const results = own.map((name) => {
            useDistanceKernel(name);
            return kernel(x, y);
          });
          assert.deepEqual(
            new Set(results).size,
            1,
            `d = ${d}: ${results.join(" ")}`,
          );
          useDistanceKernel("faiss");
          const library = kernel(x, y);
          assert.ok(Math.abs(library - results[0]) < 1e-5, `d = ${d}`);
        }
      }
    } finally {
      useDistanceKernel(before);
    }
  });

  test("read halves and bytes as the numbers they stand for, the same bits on every clone", () => {
    const own = distanceKernels().filter((name) => name !== "faiss");
    const before = useDistanceKernel(own[0]);
    try {
      for (const d of [1, 15, 16, 17, 64, 65, 1000]) {
        const x = unitFeatures(random, 1, d);
        // Every kind of half: normal, subnormal and zero, of both signs; none is infinite or no number.
        const halves = Uint16Array.from({ length: d }, (_, i) => {
          const bits = (i * 40503) & 0xffff;
          return (bits & 0x7c00) === 0x7c00 ? bits & 0x83ff : bits;
        });
        const bytes = Uint8Array.from(halves, (half) => half & 0xff);
        const wide = Float32Array.from(halves, floatFromHalf);
        for (const [row, same] of [
          [halves, wide],
          [bytes, Float32Array.from(bytes)],
        ] as const) {
          const products = own.flatMap((name) => {
            useDistanceKernel(name);
            return [kernelInnerProduct(x, row), kernelInnerProduct(x, same)];
          });
          assert.equal(new Set(products).size, 1, products.join(" "));
        }
      }
    } finally {
      useDistanceKernel(before);
    }
  });

  test("replace the library's: the fastest one is in use", () => {
    const best = distanceKernels().at(-1);
    assert.equal(useDistanceKernel("baseline"), best);
    useDistanceKernel(best ?? "");
  });
});

for (const spec of specs) {
  describe(`index of kind ${spec.kind}`, { skip }, () => {
    test("answers with −1 where it is empty", async () => {
      const index = FaissIndex.create(spec, dimension);
      const found = await index.search(unitFeatures(random, 2, dimension), {
        k: 3,
      });
      assert.deepEqual([...found.ids], [-1, -1, -1, -1, -1, -1]);
      await index.close();
    });

    test("finishes what is under way when it is closed, and may be closed again", async () => {
      const index = await filled(spec, 3);
      const running = index.search(unitFeatures(random, 1, dimension), {
        k: 1,
      });
      await index.close();
      await index.close();
      assert.equal((await running).ids.length, 1);
    });

    test("keeps its answers through save and load", () =>
      inFolder(async (folder) => {
        const index = await filled(spec, 300);
        await index.remove(Float64Array.of(3, 77, 299));
        const queries = unitFeatures(random, 4, dimension);
        const before = await index.search(queries, { k: 10 });
        const path = join(folder, "index.faiss");
        await index.save(path);
        const again = await FaissIndex.load(path);
        assert.deepEqual(await again.search(queries, { k: 10 }), before);
        assert.deepEqual(again.spec, index.spec);
        assert.equal((await again.facts()).count, 297);
        await Promise.all([index.close(), again.close()]);
      }));

    test("refuses a damaged file, whatever is damaged", () =>
      inFolder(async (folder) => {
        const index = await filled(spec, 40);
        const path = join(folder, "index.faiss");
        await index.save(path);
        await index.close();
        const whole = await readFile(path);
        const broken = join(folder, "broken");
        for (const length of [0, 7, 55, 56, 100, 400, whole.length - 1]) {
          await writeFile(broken, whole);
          await truncate(broken, length);
          await assert.rejects(FaissIndex.load(broken), {
            code: "SNAPSHOT_CORRUPT",
          });
        }
        for (let at = 0; at < whole.length; at += at < 200 ? 1 : 97) {
          const damaged = Buffer.from(whole);
          damaged[at] ^= 0xff;
          await writeFile(broken, damaged);
          await assert.rejects(
            FaissIndex.load(broken),
            { code: "SNAPSHOT_CORRUPT" },
            `byte ${at}`,
          );
        }
      }));

    test("stays whole when it is used from all sides at once", async () => {
      const index = await filled(spec, 200);
      const calls: Promise<unknown>[] = [];
      for (let round = 0; round < 40; round++) {
        const id = 1000 + round;
        calls.push(
          index.add(Float64Array.of(id), unitFeatures(random, 1, dimension)),
          index.search(unitFeatures(random, 3, dimension), { k: 20 }),
          index.remove(Float64Array.of(round)),
          index.features(Float64Array.of(round, 150)),
        );
        if (round % 13 === 7) calls.push(index.compact());
      }
      await Promise.all(calls);
      await index.compact();
      const ids = [...(await index.ids())].sort((a, b) => a - b);
      const expected = [
        ...Array.from({ length: 160 }, (_, i) => 40 + i),
        ...Array.from({ length: 40 }, (_, i) => 1000 + i),
      ];
      assert.deepEqual(ids, expected);
      assert.equal((await index.facts()).tombstones, 0);
      await index.close();
    });

    test("is compacted once more where that is asked for meanwhile, and closed after both", async () => {
      const index = await filled(spec, 600);
      await index.remove(idsTo(100));
      const first = index.compact();
      const removed = index.remove(Float64Array.of(100, 101));
      const second = removed.then(() => index.compact());
      const third = index.compact();
      await Promise.all([first, second, third]);
      assert.equal((await index.facts()).tombstones, 0);
      assert.equal((await index.facts()).count, 498);
      await index.remove(Float64Array.of(102));
      const last = [index.compact(), index.compact(), index.close()];
      const ended = await Promise.allSettled(last);
      assert.deepEqual(
        ended.map(({ status }) => status),
        ["fulfilled", "fulfilled", "fulfilled"],
      );
      await assert.rejects(index.compact(), { code: "CLOSED" });
    });

    test("stops a search whose signal fires", async () => {
      const index = await filled(spec, 10);
      const signal = AbortSignal.abort();
      await assert.rejects(
        index.search(unitFeatures(random, 1, dimension), { k: 1, signal }),
        { code: "CANCELLED" },
      );
      await index.close();
    });
  });
}

describe("index files of format 1", { skip }, () => {
  for (const kind of ["flat", "hnsw"])
    test(`are read: ${kind}`, async () => {
      // Written by the first release: ids 10 to 14, 4 numbers each, 12 removed.
      const index = await FaissIndex.load(
        `test/index/released/index-1/${kind}.faiss`,
      );
      assert.equal(index.spec.kind, kind);
      assert.deepEqual([...(await index.ids())].sort(), [10, 11, 13, 14]);
      const features = await index.features(await index.ids());
      const { ids } = await index.search(features, { k: 1 });
      assert.deepEqual([...ids], [...(await index.ids())]);
      await index.close();
    });
});
