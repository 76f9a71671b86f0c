import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  positionOf,
  summarizeClustering,
  type MemoryClustering,
} from "#serve/online-clusters";
import { DriftMonitor, jensenShannonDistance } from "#serve/online-drift";
import { MemoryRows } from "#serve/online-rows";

const facts = {
  number: 1,
  clusteredAtMs: 0,
  k1: 30,
  k2: 6,
  eps: 0.6,
  independenceThreshold: undefined,
};

/** Clusters rows of the numbers given, each with its cluster id. */
function summarize(
  clusterOf: Readonly<Record<number, number>>,
  before?: MemoryClustering,
) {
  const numbers = Object.keys(clusterOf).map(Number);
  const rows = numbers.map((row) => ({
    row,
    cropId: "",
    cameraId: String(row % 3),
    trackId: "",
    cropHashes: [],
    capturedAtMs: 10 * row,
    feature: Float32Array.of(1, 0),
  }));
  const clusterIds = Int32Array.from(numbers, (row) => clusterOf[row]);
  const r = Float32Array.from(numbers, (row) => row / 100);
  return summarizeClustering(
    { rows, clusterIds, pseudoLabels: clusterIds, rComp: r, rIndep: r },
    facts,
    before,
  );
}

const identities = ({ clusters }: MemoryClustering) =>
  Object.fromEntries(
    clusters.map(({ clusterId, pseudoIdentity }) => [
      clusterId,
      pseudoIdentity,
    ]),
  );

describe("summarizeClustering", () => {
  test("orders clusters by size and gathers what is known of their members", async () => {
    const made = await summarize({ 0: 0, 1: 1, 2: 1, 3: 1, 4: 0, 5: -1 });
    assert.deepEqual(
      made.clusters.map(({ prototype: _, ...cluster }) => cluster),
      [
        {
          clusterId: 1,
          pseudoIdentity: "pseudo-2",
          size: 3,
          cameraIds: ["0", "1", "2"],
          rComp: Math.fround(0.01),
          rIndep: Math.fround(0.01),
          capturedFromMs: 10,
          capturedToMs: 30,
        },
        {
          clusterId: 0,
          pseudoIdentity: "pseudo-1",
          size: 2,
          cameraIds: ["0", "1"],
          rComp: 0,
          rIndep: 0,
          capturedFromMs: 0,
          capturedToMs: 40,
        },
      ],
    );
    assert.equal(made.outlierCount, 1);
    assert.deepEqual([positionOf(made, 4), positionOf(made, 9)], [4, -1]);
  });

  test("keeps a pseudo identity while more than half of the members stay, whatever the id", async () => {
    const before = await summarize({ 0: 0, 1: 0, 2: 0, 3: 1, 4: 1 });
    const now = await summarize({ 0: 5, 1: 5, 2: 4, 3: 4, 4: 4 }, before);
    assert.deepEqual(identities(now), { 4: "pseudo-2", 5: "pseudo-1" });
  });

  test("gives new identities where a cluster fell into halves, and never one twice", async () => {
    const before = await summarize({ 0: 0, 1: 0, 2: 0, 3: 0 });
    const halves = await summarize({ 0: 0, 1: 0, 2: 1, 3: 1 }, before);
    assert.deepEqual(identities(halves), { 0: "pseudo-2", 1: "pseudo-3" });
    const whole = await summarize({ 0: 7, 1: 7, 2: 7, 3: 7 }, halves);
    assert.deepEqual(identities(whole), { 7: "pseudo-2" });
  });

  test("gives a merged cluster the identity of which it holds most", async () => {
    const before = await summarize({ 0: 0, 1: 0, 2: 1, 3: 1, 4: 1 });
    const now = await summarize({ 0: 0, 1: 0, 2: 0, 3: 0, 4: 0 }, before);
    assert.deepEqual(identities(now), { 0: "pseudo-2" });
  });

  test("counts only members that are still in memory", async () => {
    const before = await summarize({ 0: 0, 1: 0, 2: 0, 3: 0, 4: 0 });
    const now = await summarize({ 3: 2, 4: 2, 9: 2 }, before);
    assert.deepEqual(identities(now), { 2: "pseudo-1" });
  });
});

describe("MemoryRows", () => {
  test("never holds more rows than it may, and tells the store which left", () => {
    const rows = new MemoryRows({ maxRows: 2, momentum: 0.2 });
    const crop = {
      feature: Float32Array.of(1, 0),
      cropId: "",
      cameraId: "",
      trackId: "",
      capturedAtMs: 0,
    };
    for (let i = 0; i < 3; i++) rows.observe(crop);
    assert.deepEqual(rows.takeChanges(), { changed: [1, 2], removed: [0] });
    assert.equal(rows.hasChanges, false);
    rows.returnChanges([0, 2], [0]);
    assert.deepEqual(rows.takeChanges(), { changed: [2], removed: [0] });
  });
});

describe("drift", () => {
  test("is 0 between equal histograms, 1 between disjoint ones, and the same both ways", () => {
    assert.equal(jensenShannonDistance([0.5, 0.5], [0.5, 0.5]), 0);
    assert.equal(jensenShannonDistance([1, 0], [0, 1]), 1);
    const [p, q] = [
      [0.1, 0.9],
      [0.6, 0.4],
    ];
    assert.equal(jensenShannonDistance(p, q), jensenShannonDistance(q, p));
  });

  test("is not told before 200 crops on either side, then rises with another traffic", async () => {
    const monitor = new DriftMonitor();
    const direction = (angle: number) =>
      Float32Array.of(Math.cos(angle), Math.sin(angle));
    const offer = async (count: number, angle: number) => {
      for (let i = 0; i < count; i++) {
        monitor.offer(direction(angle + i / 1e4));
        await monitor.settle();
      }
    };
    monitor.setPrototypes([direction(0)]);
    await offer(200, 0.1);
    monitor.setPrototypes([direction(0)]);
    await offer(199, 0.1);
    assert.equal(monitor.drift(), undefined);
    await offer(1, 0.1);
    assert.equal(monitor.drift(), 0);
    await offer(2000, 1.2);
    assert.ok((monitor.drift() ?? 0) > 0.9);
  });
});
