import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { entryRoles, evaluate, judgeQuery } from "#train/evaluation";
import { rerankedDistanceBlocks } from "#train/reranking";
import { plainSimilarities } from "#train/similarity-blocks";

import { assertClose } from "../support/close.js";

const { removed, wrong, correct } = entryRoles;

describe("judgeQuery", () => {
  test("gives the step integral of precision over recall", () => {
    const figures = judgeQuery(
      Float32Array.of(0.1, 0.2, 0.3, 0.4),
      Uint8Array.of(wrong, correct, wrong, correct),
    );
    assertClose([figures?.averagePrecision ?? NaN], [0.5], { abs: 1e-12 });
    assert.equal(figures?.firstRank, 2);
  });

  test("counts entries at one distance together, and ranks them in gallery order", () => {
    const distances = Float32Array.of(0.5, 0.5, 0.5, 0.9);
    const roles = Uint8Array.of(wrong, correct, wrong, correct);
    const figures = judgeQuery(distances, roles);
    // Precision 1/3 at recall 1/2, then 2/4 at recall 1.
    assertClose([figures?.averagePrecision ?? NaN], [1 / 6 + 1 / 4], {
      abs: 1e-12,
    });
    assert.equal(figures?.firstRank, 2);
  });

  test("passes over removed entries", () => {
    const figures = judgeQuery(
      Float32Array.of(0.1, 0.2),
      Uint8Array.of(removed, correct),
    );
    assert.deepEqual(figures, { averagePrecision: 1, firstRank: 1 });
  });

  test("gives nothing for a query without a correct entry", () => {
    assert.equal(
      judgeQuery(Float32Array.of(0.1, 0.2), Uint8Array.of(removed, wrong)),
      undefined,
    );
  });

  test("equals sorting and walking on random distances with ties", () => {
    const stream = randomStream(1, "judge");
    for (let trial = 0; trial < 200; trial++) {
      const count = 1 + stream.below(30);
      const distances = Float32Array.from({ length: count }, () =>
        stream.below(8),
      );
      const roles = Uint8Array.from({ length: count }, () => stream.below(3));
      const figures = judgeQuery(distances, roles);
      const expected = judgeBySorting(distances, roles);
      assert.equal(figures?.firstRank, expected?.firstRank);
      if (figures !== undefined && expected !== undefined)
        assertClose([figures.averagePrecision], [expected.averagePrecision], {
          abs: 1e-12,
        });
    }
  });
});

describe("evaluate", () => {
  const gallery = {
    features: Float32Array.of(1, 0, 0, 1, 0.6, 0.8),
    identities: Int32Array.of(1, 0, 2),
    cameras: Int32Array.of(1, 1, 1),
  };

  test("removes entries of the query's identity and camera, keeps distractors, skips queries without a match", async () => {
    const query = {
      features: Float32Array.of(0, 1, 1, 0),
      identities: Int32Array.of(2, 1),
      cameras: Int32Array.of(2, 1),
    };
    const found = await evaluate(query, gallery, { dimension: 2, maxRank: 3 });
    assert.equal(found.queries, 2);
    assert.equal(found.skippedQueries, 1);
    // The distractor of identity 0 is nearer than the match.
    assertClose([found.mAP], [0.5], { abs: 1e-12 });
    assert.deepEqual([...found.cmc], [0, 1, 1]);
  });

  test("keeps them where a data set has no cameras", async () => {
    const query = {
      features: Float32Array.of(1, 0),
      identities: Int32Array.of(1),
      cameras: Int32Array.of(1),
    };
    const options = { dimension: 2, sameCamera: "kept" } as const;
    assert.equal((await evaluate(query, gallery, options)).mAP, 1);
  });

  test("refuses junk, empty sets, other shapes, and queries none of which has a match", async () => {
    const query = {
      features: Float32Array.of(1, 0),
      identities: Int32Array.of(9),
      cameras: Int32Array.of(1),
    };
    const empty = {
      features: new Float32Array(0),
      identities: new Int32Array(0),
      cameras: new Int32Array(0),
    };
    const options = { dimension: 2 };
    const refused = { code: "EVALUATION_SET" };
    await assert.rejects(evaluate(query, gallery, options), refused);
    await assert.rejects(evaluate(empty, gallery, options), refused);
    await assert.rejects(evaluate(query, empty, options), refused);
    await assert.rejects(
      evaluate({ ...query, identities: Int32Array.of(-1) }, gallery, options),
      refused,
    );
    await assert.rejects(evaluate(query, gallery, { dimension: 3 }), {
      code: "SHAPE",
    });
  });

  test("gives the same through an engine's matrix product", async () => {
    const stream = randomStream(3, "evaluate");
    const setOf = (count: number) => ({
      features: normalizeRows(
        Float32Array.from({ length: count * 8 }, () => stream.normal()),
        8,
      ),
      identities: Int32Array.from({ length: count }, () => stream.below(6)),
      cameras: Int32Array.from({ length: count }, () => stream.below(3)),
    });
    const [queries, entries] = [setOf(23), setOf(101)];
    let calls = 0;
    const options = {
      dimension: 8,
      similarities: (a: Float32Array, b: Float32Array, dimension: number) => {
        calls++;
        return plainSimilarities(a, b, dimension);
      },
    };
    assert.deepEqual(
      await evaluate(queries, entries, options),
      await evaluate(queries, entries, { dimension: 8 }),
    );
    assert.equal(calls, 1);
  });
});

describe("rerankedDistanceBlocks", () => {
  test("takes fewer rows than neighbours, and rows that are all the same", async () => {
    const input = {
      queries: Float32Array.of(1, 0),
      gallery: Float32Array.of(1, 0, 1, 0),
      dimension: 2,
    };
    for await (const { distances } of rerankedDistanceBlocks(input))
      assertClose(distances, [0, 0], { abs: 1e-6 });
  });
});

/** The definition: sort, walk, group ties. */
function judgeBySorting(
  distances: Float32Array,
  roles: Uint8Array,
): { averagePrecision: number; firstRank: number } | undefined {
  const order = [...distances.keys()]
    .filter((g) => roles[g] !== removed)
    .sort((a, b) => distances[a] - distances[b] || a - b);
  const total = order.filter((g) => roles[g] === correct).length;
  if (total === 0) return undefined;
  let averagePrecision = 0;
  for (const distance of new Set(order.map((g) => distances[g]))) {
    const within = order.filter((g) => distances[g] <= distance);
    const at = within.filter(
      (g) => distances[g] === distance && roles[g] === correct,
    ).length;
    const found = within.filter((g) => roles[g] === correct).length;
    averagePrecision += (at / total) * (found / within.length);
  }
  const firstRank = order.findIndex((g) => roles[g] === correct) + 1;
  return { averagePrecision, firstRank };
}
