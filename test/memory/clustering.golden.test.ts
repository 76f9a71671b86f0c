import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { clusterInstances } from "#memory/clustering-run";
import { dbscan } from "#memory/dbscan";
import { jaccardDistance, type SparseDistances } from "#memory/jaccard";

import { assertClose } from "../support/close.js";
import { goldenCases } from "../support/golden.js";
import { neighboursByLoop } from "../support/neighbours.js";
import { assertSamePartition } from "../support/partition.js";

/** test/golden/README.md: Jaccard 1e-5; R 1e-6; partitions equal. */
const JACCARD_TOLERANCE = { abs: 1e-5 };
const R_TOLERANCE = { abs: 1e-6 };

interface EpochCase {
  readonly features: readonly number[];
  readonly jaccard?: readonly number[];
  readonly dbscan?: Readonly<
    Partial<Record<"base" | "tight" | "loose", readonly number[]>>
  >;
  readonly r_comp?: readonly number[];
  readonly r_indep?: readonly number[];
  readonly indep_threshold?: number;
  readonly pseudo_labels?: readonly number[];
  readonly clusters?: number;
  readonly unclustered?: number;
}

type ClusteringCase = {
  readonly dim: number;
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
  readonly eps_gap: number;
  readonly min_samples: number;
} & Readonly<Record<`epoch${number}`, EpochCase | undefined>>;

const cases = goldenCases<ClusteringCase>("clustering.json");

describe("clustering against the reference", () => {
  if (cases === undefined)
    test("has cases", { skip: "clustering.json is not in the golden folder" });
  for (const [name, golden] of cases ?? []) {
    const { dim: dimension, k1, k2, eps, min_samples: minSamples } = golden;
    const epsGap = golden.eps_gap;
    const settings = {
      k1,
      k2,
      eps,
      epsGap,
      minSamples,
      criterion: "both",
    } as const;
    // Found in the first epoch that has a cluster and handed on from there.
    let threshold: number | undefined;

    for (const [epochName, epoch] of epochsOf(golden)) {
      const title = `${name} ${epochName}`;
      const features = Float32Array.from(epoch.features);
      const neighbours = neighboursByLoop(features, dimension, k1);
      const clustering = clusterInstances(
        { features, dimension, neighbours },
        { ...settings, independenceThreshold: threshold },
      );
      threshold = clustering.independenceThreshold;

      if (epoch.jaccard !== undefined) {
        const { jaccard } = epoch;
        test(`${title}: Jaccard distances agree`, () => {
          const distances = jaccardDistance(features, neighbours, {
            dimension,
            k1,
            k2,
            maxDistance: 1,
          });
          assertClose(denseFrom(distances), jaccard, JACCARD_TOLERANCE);
        });
      }

      test(`${title}: DBSCAN partitions agree`, () => {
        const distances = jaccardDistance(features, neighbours, {
          dimension,
          k1,
          k2,
          maxDistance: eps + epsGap,
        });
        const radii = { base: eps, tight: eps - epsGap, loose: eps + epsGap };
        for (const radius of ["base", "tight", "loose"] as const) {
          const expected = epoch.dbscan?.[radius];
          if (expected === undefined) continue;
          const ids = dbscan(distances, { eps: radii[radius], minSamples });
          assertSamePartition(ids, expected);
          assert.deepEqual(
            [...ids].map((id) => id < 0),
            expected.map((id) => id < 0 || isAlone(expected, id)),
            `${radius}: outliers`,
          );
        }
      });

      test(`${title}: reliability, threshold and pseudo labels agree`, () => {
        if (epoch.r_comp !== undefined)
          assertClose(clustering.rComp, epoch.r_comp, R_TOLERANCE);
        if (epoch.r_indep !== undefined)
          assertClose(clustering.rIndep, epoch.r_indep, R_TOLERANCE);
        if (epoch.indep_threshold !== undefined)
          assertClose(
            [clustering.independenceThreshold ?? NaN],
            [epoch.indep_threshold],
            R_TOLERANCE,
          );
        if (epoch.pseudo_labels !== undefined)
          assertSamePartition(clustering.labels, epoch.pseudo_labels);
        if (epoch.clusters !== undefined)
          assert.equal(clustering.clusterCount, epoch.clusters);
        if (epoch.unclustered !== undefined)
          assert.equal(clustering.unclusteredCount, epoch.unclustered);
      });
    }
  }
});

function epochsOf(golden: ClusteringCase): [string, EpochCase][] {
  return Object.entries(golden)
    .filter(([key]) => /^epoch\d+$/.test(key))
    .sort(([a], [b]) => Number(a.slice(5)) - Number(b.slice(5)))
    .map(([key, epoch]) => [key, epoch as EpochCase]);
}

function denseFrom({
  rowStart,
  columns,
  values,
}: SparseDistances): Float32Array {
  const count = rowStart.length - 1;
  const dense = new Float32Array(count * count).fill(1);
  for (let i = 0; i < count; i++)
    for (let p = rowStart[i]; p < rowStart[i + 1]; p++)
      dense[i * count + columns[p]] = values[p];
  return dense;
}

/** Golden ids may already give each outlier a label of its own. */
function isAlone(ids: readonly number[], id: number): boolean {
  return ids.indexOf(id) === ids.lastIndexOf(id);
}
