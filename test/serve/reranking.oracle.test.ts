import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { ClosedError } from "#core/errors";
import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { Reranker } from "#serve/reranker";
import { rerankedDistances, type RerankSettings } from "#serve/reranking";
import { rerankedDistanceBlocks } from "#train/reranking";
import { assertClose } from "../support/close.js";
import { unitFeatures } from "../support/galleries.js";
import { plainRerankedDistances } from "../support/plain-reranking.js";

const defaults: RerankSettings = { k1: 20, k2: 6, distanceShare: 0.3 };

/** Features around a few centres, so that neighbourhoods overlap. */
function clustered(seed: number, count: number, dimension: number) {
  const random = randomStream(seed, "clustered");
  const centres = unitFeatures(random, 6, dimension);
  const features = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++)
    for (let d = 0; d < dimension; d++)
      features[row * dimension + d] =
        centres[(row % 6) * dimension + d] +
        (0.9 * random.normal()) / Math.sqrt(dimension);
  normalizeRows(features, dimension);
  return features;
}

describe("rerankedDistances", () => {
  const cases: readonly [string, number, number, RerankSettings][] = [
    ["the defaults", 90, 24, defaults],
    ["no averaging", 60, 16, { k1: 7, k2: 1, distanceShare: 0.3 }],
    ["an odd half", 60, 16, { k1: 5, k2: 3, distanceShare: 0 }],
    ["the largest k1", 220, 12, { k1: 100, k2: 100, distanceShare: 0.5 }],
    ["fewer candidates than k1", 9, 8, defaults],
    ["the plain distance alone", 30, 8, { ...defaults, distanceShare: 1 }],
    ["one candidate", 2, 8, defaults],
  ];
  for (const [name, count, dimension, settings] of cases)
    test(`agree with dense sets written from the paper: ${name}`, async () => {
      const features = clustered(count, count, dimension);
      const distances = await rerankedDistances(
        { features, dimension },
        settings,
      );
      assertClose(
        distances,
        plainRerankedDistances(features, dimension, settings),
        {
          abs: 2e-5,
        },
      );
    });

  test("agree with reid eval --rerank where its squared distances are these ones", async () => {
    // The reference squares the squared distance once more: 2 − 2⟨g_i, g_j⟩ = ‖f_i − f_j‖ makes up for that.
    // Such unit g there are, by Schoenberg 1938: the Euclidean distance is itself a squared Euclidean distance.
    const [count, dimension] = [60, 16];
    const features = clustered(3, count, dimension);
    const roots = unitRowsOf(count, (i, j) => {
      let sum = 0;
      for (let n = 0; n < dimension; n++)
        sum += (features[i * dimension + n] - features[j * dimension + n]) ** 2;
      return 1 - Math.sqrt(sum) / 2;
    });
    const settings = { k1: 12, k2: 4, distanceShare: 0.3 };
    const offline: number[] = [];
    for await (const { distances } of rerankedDistanceBlocks(
      {
        queries: roots.slice(0, count),
        gallery: roots.slice(count),
        dimension: count,
      },
      { k1: 12, k2: 4, lambda: 0.3 },
    ))
      offline.push(...distances);
    const distances = await rerankedDistances(
      { features, dimension },
      settings,
    );
    assertClose(distances, offline, { abs: 1e-4 });
  });

  test("stay in [0, 1] and finite where every row is the same", async () => {
    const features = new Float32Array(8 * 4);
    for (let row = 0; row < 8; row++) features[row * 4] = 1;
    const distances = await rerankedDistances(
      { features, dimension: 4 },
      defaults,
    );
    for (const distance of distances)
      assert.ok(distance >= 0 && distance <= 1e-6, String(distance));
  });
});

describe("Reranker", () => {
  const reranker = new Reranker();
  after(() => reranker.close());

  test("gives each of many queries at once its own distances, off this thread", async () => {
    const inputs = [1, 2, 3].map((seed) => clustered(seed, 40, 8));
    const found = await Promise.all(
      inputs.map((features) =>
        reranker.rerank({ features: features.slice(), dimension: 8 }, defaults),
      ),
    );
    for (const [i, features] of inputs.entries())
      assert.deepEqual(
        found[i],
        await rerankedDistances({ features, dimension: 8 }, defaults),
      );
  });

  test("hands a failure of the thread to the query it is of, and lives", async () => {
    const broken = reranker.rerank(
      { features: new Float32Array(7), dimension: 4 },
      defaults,
    );
    await assert.rejects(broken, { code: "SHAPE" });
    const features = clustered(1, 10, 4);
    const distances = await reranker.rerank(
      { features, dimension: 4 },
      defaults,
    );
    assert.equal(distances.length, 9);
  });

  test("fails with a ClosedError what is under way when it closes, and later queries", async () => {
    const closing = new Reranker();
    const features = clustered(1, 10, 4);
    const underWay = closing.rerank(
      { features: features.slice(), dimension: 4 },
      defaults,
    );
    const failed = assert.rejects(underWay, ClosedError);
    await closing.close();
    await closing.close();
    await failed;
    await assert.rejects(
      closing.rerank({ features, dimension: 4 }, defaults),
      ClosedError,
    );
  });
});

/** Unit rows, float32 [N, N], with these inner products: Cholesky's factor of their matrix. */
function unitRowsOf(
  count: number,
  product: (i: number, j: number) => number,
): Float32Array {
  const rows = Array.from({ length: count }, () => new Float64Array(count));
  for (let i = 0; i < count; i++)
    for (let j = 0; j <= i; j++) {
      let rest = i === j ? 1 : product(i, j);
      for (let n = 0; n < j; n++) rest -= rows[i][n] * rows[j][n];
      assert.ok(i !== j || rest > 0, "the matrix is positive definite");
      rows[i][j] = i === j ? Math.sqrt(rest) : rest / rows[j][j];
    }
  return Float32Array.from(rows.flatMap((row) => [...row]));
}
