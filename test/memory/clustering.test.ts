import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { partitionAgreement } from "#memory/agreement";
import { centreByCamera } from "#memory/centring";
import { ClusteringWorker } from "#memory/clustering";
import { clusterInstances, PAPER_CLUSTERING } from "#memory/clustering-run";
import { chooseClustering } from "#memory/consensus";
import { OUTLIER } from "#memory/dbscan";
import { pseudoLabels } from "#memory/pseudo-labels";

import { assertClose } from "../support/close.js";
import { neighboursByLoop } from "../support/neighbours.js";

const DIMENSION = 16;

describe("clusterInstances", () => {
  for (const count of [0, 1, 2, 3])
    test(`takes ${count} instances and calls them outliers`, () => {
      const clustering = clusterInstances(
        inputOf(identities(count, 1, 0.1)),
        PAPER_CLUSTERING,
      );
      assert.equal(clustering.clusterCount, 0);
      assert.equal(clustering.unclusteredCount, count);
      assert.equal(clustering.independenceThreshold, undefined);
      assert.deepEqual(
        [...clustering.labels],
        Array.from({ length: count }, (_, i) => i),
      );
    });

  test("finds one cluster where there is one", () => {
    const clustering = clusterInstances(
      inputOf(identities(25, 1, 0.05)),
      PAPER_CLUSTERING,
    );
    assert.equal(clustering.clusterCount, 1);
    assert.equal(clustering.largestCluster, 25);
  });

  test("finds the identities of clear data", () => {
    const data = identities(200, 10, 0.4);
    const { labels } = clusterInstances(inputOf(data), {
      ...PAPER_CLUSTERING,
      k1: 15,
      k2: 4,
    });
    assert.ok(partitionAgreement(labels, data.identities).ari > 0.95);
  });

  test("takes rows that are all the same", () => {
    const features = new Float32Array(40 * DIMENSION);
    for (let i = 0; i < 40; i++) features[i * DIMENSION] = 1;
    const neighbours = neighboursByLoop(features, DIMENSION, 30);
    const { labels } = clusterInstances(
      { features, dimension: DIMENSION, neighbours },
      PAPER_CLUSTERING,
    );
    assert.equal(labels.length, 40);
  });
});

describe("pseudoLabels", () => {
  const clusterIds = Int32Array.of(0, 0, 0, 1, 1, OUTLIER);
  const reliability = {
    rComp: Float32Array.of(0, 0.5, 0, 0.2, 0.2, 0),
    rIndep: Float32Array.of(0.1, 0.1, 0.1, 0.6, 0.6, 0),
  };
  const expected = {
    none: [0, 0, 0, 1, 1, 2],
    independence: [0, 0, 0, 3, 4, 2],
    compactness: [0, 3, 0, 1, 1, 2],
    both: [0, 3, 0, 4, 5, 2],
  } as const;
  for (const criterion of Object.keys(expected) as (keyof typeof expected)[])
    test(`dissolves what fails the criterion ${criterion}`, () => {
      const { labels } = pseudoLabels(clusterIds, reliability, {
        criterion,
        independenceThreshold: 0.3,
      });
      assert.deepEqual([...labels], expected[criterion]);
    });

  test("finds the threshold once and keeps the one it is given", () => {
    const options = { criterion: "both" } as const;
    const found = pseudoLabels(clusterIds, reliability, options);
    assertClose([found.independenceThreshold ?? NaN], [0.6], { abs: 1e-6 });
    const kept = pseudoLabels(clusterIds, reliability, {
      ...options,
      independenceThreshold: 0.3,
    });
    assert.equal(kept.independenceThreshold, 0.3);
  });
});

describe("centreByCamera", () => {
  test("removes what rows of one camera share", () => {
    const data = identities(120, 6, 0.3);
    const cameras = Int32Array.from({ length: 120 }, (_, i) => i % 2);
    const tinted = data.features.slice();
    for (let i = 1; i < 120; i += 2) tinted[i * DIMENSION] += 3;
    normalizeRows(tinted, DIMENSION);
    const centred = centreByCamera(tinted, cameras, DIMENSION);
    const means = [0, 1].map((camera) => {
      let sum = 0;
      for (let i = camera; i < 120; i += 2) sum += centred[i * DIMENSION];
      return sum / 60;
    });
    assert.ok(Math.abs(means[0] - means[1]) < 0.1);
    assertClose([Math.hypot(...centred.subarray(0, DIMENSION))], [1], {
      abs: 1e-5,
    });
  });

  test("gives small cameras one mean together", () => {
    const { features } = identities(90, 6, 0.3);
    const apart = Int32Array.from({ length: 90 }, (_, i) => i % 3);
    const together = new Int32Array(90);
    assert.deepEqual(
      centreByCamera(features, apart, DIMENSION),
      centreByCamera(features, together, DIMENSION),
    );
  });

  test("leaves a lone row of a camera something to be told by", () => {
    const { features } = identities(101, 6, 0.3);
    const cameras = Int32Array.from({ length: 101 }, (_, i) =>
      i === 100 ? 1 : 0,
    );
    const centred = centreByCamera(features, cameras, DIMENSION);
    const last = centred.subarray(100 * DIMENSION);
    assertClose([Math.hypot(...last)], [1], { abs: 1e-5 });
  });
});

describe("partitionAgreement", () => {
  test("gives 1 for equal partitions under other names", () => {
    assert.deepEqual(partitionAgreement([3, 3, 1, -1], [0, 0, 5, 7]), {
      ari: 1,
      nmi: 1,
      pairPrecision: 1,
      pairRecall: 1,
    });
  });

  test("agrees with figures worked out by hand", () => {
    // sklearn: adjusted_rand_score 0.2424…, normalized_mutual_info_score 0.5158…
    const { ari, nmi, pairPrecision, pairRecall } = partitionAgreement(
      [0, 0, 1, 1, 2, 2],
      [0, 0, 0, 1, 1, 1],
    );
    assertClose([ari], [8 / 33], { abs: 1e-12 });
    assertClose([nmi], [0.5158037429793889], { abs: 1e-9 });
    assertClose([pairPrecision, pairRecall], [2 / 3, 1 / 3], { abs: 1e-12 });
  });

  test("leaves junk out", () => {
    assert.equal(partitionAgreement([0, 0, 1, 0], [4, 4, 5, -1]).ari, 1);
  });
});

describe("chooseClustering", () => {
  const options = { epsGap: 0.02, minSamples: 4, seed: 1 };

  test("reaches 0.95 of the best ARI in the grid on average, without labels", () => {
    const shares = [0.5, 0.7, 0.8, 0.9, 1].map((spread) => {
      const data = identities(400, 40, spread);
      const input = inputOf(data);
      const choice = chooseClustering(input, options);
      const quality = choice.candidates.map(({ k1, k2, eps }) => {
        const setting = { ...PAPER_CLUSTERING, k1, k2, eps };
        const { clusterIds } = clusterInstances(input, setting);
        return partitionAgreement(clusterIds, data.identities).ari;
      });
      return (
        quality[choice.candidates.indexOf(choice.chosen)] / Math.max(...quality)
      );
    });
    const mean = shares.reduce((a, b) => a + b) / shares.length;
    assert.ok(mean >= 0.95, `mean ${mean} of ${shares.join(", ")}`);
  });

  test("stays with the setting in force where nothing gains more than 0.02", () => {
    const input = inputOf(identities(200, 20, 0.5));
    const { chosen, candidates } = chooseClustering(input, options);
    const near = candidates.find(
      (other) => other !== chosen && other.agreement >= chosen.agreement - 0.02,
    );
    assert.ok(near, "a second setting nearly as good");
    const again = chooseClustering(input, { ...options, current: near });
    assert.equal(again.changed, false);
    assert.equal(again.chosen.k1, near.k1);
    assert.equal(again.chosen.eps, near.eps);
  });

  test("picks as well from a sample of whole neighbourhoods", () => {
    const data = identities(600, 60, 0.8);
    const input = inputOf(data);
    const choice = chooseClustering(input, { ...options, maxInstances: 200 });
    assert.ok(choice.instances >= 200 && choice.instances < 350);
    const ariAt = (setting: { k1: number; k2: number; eps: number }): number =>
      partitionAgreement(
        clusterInstances(input, { ...PAPER_CLUSTERING, ...setting }).clusterIds,
        data.identities,
      ).ari;
    const { k1, k2, eps } = choice.chosen;
    const whole = chooseClustering(input, options).chosen;
    assert.ok(
      ariAt({ k1, k2, eps }) >=
        0.9 * ariAt({ k1: whole.k1, k2: whole.k2, eps: whole.eps }),
    );
  });

  for (const count of [0, 1, 5, 9])
    test(`chooses something for ${count} instances`, () => {
      const { chosen } = chooseClustering(
        inputOf(identities(count, 2, 0.2)),
        options,
      );
      assert.ok(chosen.k1 >= 8 && chosen.eps >= 0.4);
    });
});

describe("ClusteringWorker", () => {
  test("gives what the same call gives here", async () => {
    const input = inputOf(identities(150, 10, 0.5));
    const worker = new ClusteringWorker();
    try {
      const [there, choice] = await Promise.all([
        worker.cluster(input, PAPER_CLUSTERING),
        worker.choose(input, { epsGap: 0.02, minSamples: 4, seed: 1 }),
      ]);
      assert.deepEqual(there, clusterInstances(input, PAPER_CLUSTERING));
      assert.equal(choice.candidates.length, 42);
    } finally {
      await worker.close();
    }
  });

  test("hands errors over with name, code and facts, and goes on", async () => {
    const worker = new ClusteringWorker();
    try {
      const input = inputOf(identities(10, 2, 0.5));
      await assert.rejects(
        worker.cluster(
          { ...input, neighbours: new Int32Array(3) },
          PAPER_CLUSTERING,
        ),
        { name: "ShapeError", code: "SHAPE", kind: "invalid-argument" },
      );
      await worker.cluster(input, PAPER_CLUSTERING);
    } finally {
      await worker.close();
    }
  });

  test("stops at the signal and starts anew", async () => {
    const worker = new ClusteringWorker();
    try {
      const input = inputOf(identities(600, 30, 0.5));
      const controller = new AbortController();
      const turn = worker.cluster(input, PAPER_CLUSTERING, controller.signal);
      setImmediate(() => controller.abort());
      await assert.rejects(turn, { code: "CLUSTERING_CANCELLED" });
      await assert.rejects(
        worker.cluster(input, PAPER_CLUSTERING, controller.signal),
        { code: "CLUSTERING_CANCELLED" },
      );
      await worker.cluster(input, PAPER_CLUSTERING);
    } finally {
      await worker.close();
    }
  });

  test("refuses work after close, which may be called twice", async () => {
    const worker = new ClusteringWorker();
    await worker.close();
    await worker.close();
    await assert.rejects(
      worker.cluster(inputOf(identities(5, 1, 0.1)), PAPER_CLUSTERING),
      { code: "CLOSED" },
    );
  });
});

interface Data {
  readonly features: Float32Array;
  readonly identities: Int32Array;
}

/** Unit rows around unit centres; `spread` is the length of the noise. */
function identities(count: number, centres: number, spread: number): Data {
  const stream = randomStream(7, "identities", count, centres, spread);
  const means = normalizeRows(
    Float32Array.from({ length: centres * DIMENSION }, () => stream.normal()),
    DIMENSION,
  );
  const ids = Int32Array.from({ length: count }, (_, i) => i % centres);
  const features = Float32Array.from(
    { length: count * DIMENSION },
    (_, n) =>
      means[ids[Math.floor(n / DIMENSION)] * DIMENSION + (n % DIMENSION)] +
      (spread / Math.sqrt(DIMENSION)) * stream.normal(),
  );
  return { features: normalizeRows(features, DIMENSION), identities: ids };
}

function inputOf({ features }: Data): {
  features: Float32Array;
  dimension: number;
  neighbours: Int32Array;
} {
  return {
    features,
    dimension: DIMENSION,
    neighbours: neighboursByLoop(features, DIMENSION, 30),
  };
}
