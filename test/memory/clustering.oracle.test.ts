import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { dbscan, OUTLIER } from "#memory/dbscan";
import { jaccardDistance, type SparseDistances } from "#memory/jaccard";
import { reliability } from "#memory/reliability";

import { assertClose } from "../support/close.js";
import { neighboursByLoop } from "../support/neighbours.js";
import { assertSamePartition } from "../support/partition.js";

const DIMENSION = 12;

describe("jaccardDistance", () => {
  const settings = [
    { count: 90, k1: 30, k2: 6 },
    { count: 90, k1: 11, k2: 1 },
    { count: 60, k1: 8, k2: 2 },
    { count: 20, k1: 30, k2: 6 },
    { count: 3, k1: 30, k2: 6 },
  ];
  for (const { count, k1, k2 } of settings)
    test(`equals dense double loops with ${count} rows, k1 ${k1}, k2 ${k2}`, () => {
      const features = blobs(count, k1);
      const neighbours = neighboursByLoop(features, DIMENSION, k1);
      const dense = denseJaccard(features, neighbours, { count, k1, k2 });
      const sparse = jaccardDistance(features, neighbours, {
        dimension: DIMENSION,
        k1,
        k2,
        maxDistance: 0.9,
      });
      const seen = denseFrom(sparse, count);
      assertClose(
        seen.map((value, n) => (Number.isNaN(value) ? dense[n] : value)),
        dense,
        { abs: 1e-6 },
      );
      // What is left out is far; what is listed is near.
      for (let n = 0; n < dense.length; n++)
        assert.equal(Number.isNaN(seen[n]), Math.fround(dense[n]) > 0.9);
    });

  test("finds no two rows near each other where k1 counts a row alone, and some where it counts one more", () => {
    const pairs = [1, 2].map((k1) => {
      const features = blobs(60, 1);
      const neighbours = neighboursByLoop(features, DIMENSION, k1);
      const options = { dimension: DIMENSION, k1, k2: 6, maxDistance: 0.9 };
      const { columns } = jaccardDistance(features, neighbours, options);
      return columns.length - 60;
    });
    assert.equal(pairs[0], 0);
    assert.ok(pairs[1] > 0);
  });

  test("takes lists that an approximate search left short", () => {
    const count = 60;
    const neighbours = neighboursByLoop(blobs(count, 1), DIMENSION, 12);
    for (let i = 0; i < count; i += 3)
      neighbours.fill(-1, i * 12 + 4, (i + 1) * 12);
    const dense = denseJaccard(blobs(count, 1), neighbours, {
      count,
      k1: 12,
      k2: 6,
    });
    const sparse = jaccardDistance(blobs(count, 1), neighbours, {
      dimension: DIMENSION,
      k1: 12,
      k2: 6,
      maxDistance: 1,
    });
    assertClose(
      denseFrom(sparse, count).map((v) => (Number.isNaN(v) ? 1 : v)),
      dense,
      { abs: 1e-6 },
    );
  });

  test("lists only itself for a row without any neighbour, and nothing for no rows", () => {
    const one = jaccardDistance(
      Float32Array.of(1, 0),
      Int32Array.of(-1, -1, -1),
      { dimension: 2, k1: 3, k2: 2, maxDistance: 0.6 },
    );
    assert.deepEqual([...one.columns], [0]);
    assert.deepEqual([...one.values], [0]);
    const none = jaccardDistance(new Float32Array(0), new Int32Array(0), {
      dimension: 2,
      k1: 3,
      k2: 2,
      maxDistance: 0.6,
    });
    assert.deepEqual([...none.rowStart], [0]);
  });

  test("refuses features and lists that do not fit, and says both shapes", () => {
    const options = { dimension: 2, k1: 3, k2: 2, maxDistance: 0.6 };
    assert.throws(
      () => jaccardDistance(new Float32Array(3), new Int32Array(3), options),
      { name: "ShapeError", message: /\[N, 2\].*3 numbers/ },
    );
    assert.throws(
      () => jaccardDistance(new Float32Array(4), new Int32Array(3), options),
      { name: "ShapeError", message: /\[2, k\].*3 numbers/ },
    );
  });
});

describe("dbscan", () => {
  for (const seed of [1, 2, 3, 4])
    test(`equals the textbook on dense distances, seed ${seed}`, () => {
      const count = 80;
      const features = blobs(count, seed);
      const neighbours = neighboursByLoop(features, DIMENSION, 15);
      const sparse = jaccardDistance(features, neighbours, {
        dimension: DIMENSION,
        k1: 15,
        k2: 4,
        maxDistance: 0.8,
      });
      const dense = denseFrom(sparse, count);
      for (const eps of [0.2, 0.4, 0.5, 0.6, 0.8])
        for (const minSamples of [1, 2, 4, 8])
          assert.deepEqual(
            [...dbscan(sparse, { eps, minSamples })],
            denseDbscan(dense, count, { eps, minSamples }),
          );
    });
});

describe("reliability", () => {
  test("equals intersections and unions of member lists", () => {
    const stream = randomStream(1, "reliability");
    for (let trial = 0; trial < 20; trial++) {
      const count = 1 + stream.below(40);
      const [base, tight, loose] = [8, 12, 4].map((bound) =>
        clusterIds(
          Array.from({ length: count }, () => stream.below(bound) - 1),
        ),
      );
      const { rComp, rIndep } = reliability({ base, tight, loose });
      assertClose(rComp, oneMinusIou(base, tight), { abs: 1e-7 });
      assertClose(rIndep, oneMinusIou(base, loose), { abs: 1e-7 });
    }
  });
});

test("partitions that differ in ids only are the same", () => {
  assertSamePartition([0, 0, 1, -1], [5, 5, 2, -1]);
  assert.throws(() => assertSamePartition([0, 0, 1], [0, 1, 1]));
});

/** Unit rows around eight centres, near enough to overlap. */
function blobs(count: number, seed: number): Float32Array {
  const stream = randomStream(seed, "blobs");
  const centres = Float32Array.from({ length: 8 * DIMENSION }, () =>
    stream.normal(),
  );
  const rows = Float32Array.from(
    { length: count * DIMENSION },
    (_, n) =>
      centres[(Math.floor(n / DIMENSION) % 8) * DIMENSION + (n % DIMENSION)] +
      0.6 * stream.normal(),
  );
  return normalizeRows(rows, DIMENSION);
}

function denseFrom(
  { rowStart, columns, values }: SparseDistances,
  count: number,
): Float64Array {
  const dense = new Float64Array(count * count).fill(NaN);
  for (let i = 0; i < count; i++)
    for (let p = rowStart[i]; p < rowStart[i + 1]; p++)
      dense[i * count + columns[p]] = values[p];
  return dense;
}

/** The definition with sets and an N × N matrix. */
function denseJaccard(
  features: Float32Array,
  neighbours: Int32Array,
  {
    count,
    k1,
    k2,
  }: { readonly count: number; readonly k1: number; readonly k2: number },
): number[] {
  const width = neighbours.length / count;
  const first = (i: number, k: number): number[] =>
    [...neighbours.subarray(i * width, i * width + Math.min(k, width))].filter(
      (j) => j >= 0,
    );
  const reciprocal = (i: number, k: number): number[] =>
    first(i, k).filter((j) => first(j, k).includes(i));
  const half = k1 % 4 === 1 || k1 % 2 === 0 ? Math.floor(k1 / 2) : (k1 + 1) / 2;
  const v = Array.from({ length: count }, (_, i) => {
    const own = reciprocal(i, k1);
    const set = new Set(own);
    for (const j of own) {
      const candidates = reciprocal(j, half + 1);
      const shared = candidates.filter((l) => own.includes(l)).length;
      if (shared > (2 / 3) * candidates.length)
        candidates.forEach((l) => set.add(l));
    }
    const row = new Array<number>(count).fill(0);
    for (const j of set) {
      let dot = 0;
      for (let d = 0; d < DIMENSION; d++)
        dot += features[i * DIMENSION + d] * features[j * DIMENSION + d];
      row[j] = Math.exp(-(2 - 2 * dot));
    }
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((x) => x / sum);
  });
  const averaged = v.map((row, i) => {
    const near = first(i, k2);
    return k2 <= 1
      ? row
      : row.map(
          (_, l) => near.reduce((sum, j) => sum + v[j][l], 0) / near.length,
        );
  });
  return averaged.flatMap((a) =>
    averaged.map((b) => {
      const shared = a.reduce((sum, x, l) => sum + Math.min(x, b[l]), 0);
      return Math.max(0, 1 - shared / (2 - shared));
    }),
  );
}

function denseDbscan(
  dense: Float64Array,
  count: number,
  { eps, minSamples }: { readonly eps: number; readonly minSamples: number },
): number[] {
  const near = (i: number): number[] =>
    Array.from({ length: count }, (_, j) => j).filter(
      (j) => dense[i * count + j] <= Math.fround(eps),
    );
  const ids = new Array<number>(count).fill(OUTLIER);
  let cluster = 0;
  for (let i = 0; i < count; i++) {
    if (ids[i] !== OUTLIER || near(i).length < minSamples) continue;
    const queue = [i];
    ids[i] = cluster;
    for (const p of queue) {
      if (near(p).length < minSamples) continue;
      for (const j of near(p))
        if (ids[j] === OUTLIER) {
          ids[j] = cluster;
          queue.push(j);
        }
    }
    cluster++;
  }
  return ids;
}

/** Ids without gaps, as DBSCAN gives them. */
function clusterIds(labels: readonly number[]): Int32Array {
  const used = [...new Set(labels)].filter((label) => label >= 0);
  return Int32Array.from(labels, (label) => used.indexOf(label));
}

function oneMinusIou(a: Int32Array, b: Int32Array): number[] {
  const members = (ids: Int32Array, i: number): number[] =>
    ids[i] === OUTLIER ? [i] : [...ids.keys()].filter((j) => ids[j] === ids[i]);
  return [...a.keys()].map((i) => {
    const x = members(a, i);
    const y = members(b, i);
    const both = x.filter((j) => y.includes(j)).length;
    return 1 - both / (x.length + y.length - both);
  });
}
