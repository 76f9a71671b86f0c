import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MemoryClustering } from "#serve/online-clusters";
import { rowsOfEntries, withoutRows } from "#serve/online-forgetting";
import type { MemoryRow } from "#serve/online-rows";
import { featureNamed } from "../support/galleries.js";

const dimension = 4;

function row(number: number): MemoryRow {
  return {
    row: number,
    cropId: "",
    cameraId: `c${number % 2}`,
    trackId: `t${number}`,
    capturedAtMs: 0,
    cropHashes: [],
    feature: featureNamed(`r${number}`, dimension),
  };
}

function cluster(clusterId: number, size: number) {
  return {
    ...{ clusterId, size, cameraIds: ["c0", "c1"] },
    pseudoIdentity: `p${clusterId}`,
    ...{ rComp: 0, rIndep: 0, capturedFromMs: 0, capturedToMs: 0 },
    prototype: featureNamed(`p${clusterId}`, dimension),
  };
}

/** Rows 0 to 6: three in cluster 0, two in cluster 1, row 5 and 6 outliers. */
const clustering: MemoryClustering = {
  ...{ number: 3, clusteredAtMs: 0, k1: 2, k2: 2, eps: 0.5 },
  independenceThreshold: undefined,
  rows: Float64Array.of(0, 1, 2, 3, 4, 5, 6),
  clusterIds: Int32Array.of(0, 0, 0, 1, 1, -1, -1),
  pseudoLabels: Int32Array.of(0, 0, 0, 1, 1, 2, 3),
  clusters: [cluster(0, 3), cluster(1, 2)],
  outlierCount: 2,
  nextIdentity: 2,
};

describe("withoutRows", () => {
  test("makes prototypes of what is left, and outliers of what is left alone", () => {
    const gone = new Set([1, 3, 6]);
    const rest = withoutRows(clustering, gone, (number) =>
      gone.has(number) ? undefined : row(number),
    );
    assert.deepEqual([...rest.rows], [0, 2, 4, 5]);
    assert.deepEqual([...rest.clusterIds], [0, 0, -1, -1]);
    assert.deepEqual([...rest.pseudoLabels], [0, 0, 1, 2]);
    assert.equal(rest.outlierCount, 2);
    const [only, ...others] = rest.clusters;
    assert.deepEqual(others, []);
    assert.deepEqual([only.size, only.cameraIds], [2, ["c0"]]);
    const sum = row(0).feature.map((x, i) => x + row(2).feature[i]);
    const length = Math.hypot(...sum);
    only.prototype.forEach((x, i) =>
      assert.ok(Math.abs(x - sum[i] / length) < 1e-6),
    );
  });

  test("gives the clustering itself where none of the rows is in it", () => {
    assert.equal(withoutRows(clustering, new Set([9]), row), clustering);
  });
});

describe("rowsOfEntries", () => {
  const isOf = rowsOfEntries([
    { cameraId: "c1", trackId: "t1" },
    { cameraId: "c1", trackId: "", cropHash: "abcd" },
  ]);

  test("needs camera and track, and finds nothing by an empty one", () => {
    const cropHashes: string[] = [];
    assert.ok(isOf({ cameraId: "c1", trackId: "t1", cropHashes }));
    assert.ok(!isOf({ cameraId: "c2", trackId: "t1", cropHashes }));
    assert.ok(!isOf({ cameraId: "c1", trackId: "", cropHashes }));
  });

  test("finds a row by the hash of any of its crops, whatever its track", () => {
    const elsewhere = { cameraId: "c9", trackId: "t9" };
    assert.ok(isOf({ ...elsewhere, cropHashes: ["0000", "abcd"] }));
    assert.ok(!isOf({ ...elsewhere, cropHashes: ["0000"] }));
  });
});
