import { describe, test } from "node:test";

import { evaluate, type EvaluationSet } from "#train/evaluation";
import { rerankedDistanceBlocks } from "#train/reranking";

import { assertClose } from "../support/close.js";
import { goldenCases } from "../support/golden.js";

/** test/golden/README.md: mAP and CMC 1e-6; re-ranked distances 1e-5. */
const FIGURE_TOLERANCE = { abs: 1e-6 };
const DISTANCE_TOLERANCE = { abs: 1e-5 };

interface EvaluationCase {
  readonly dim: number;
  readonly query_features: readonly number[];
  readonly gallery_features: readonly number[];
  readonly query_ids: readonly number[];
  readonly gallery_ids: readonly number[];
  readonly query_cams: readonly number[];
  readonly gallery_cams: readonly number[];
  readonly mAP?: number;
  readonly cmc?: readonly number[];
  readonly rerank?: {
    readonly k1: number;
    readonly k2: number;
    readonly lam: number;
    readonly mAP?: number;
    readonly distances?: readonly number[];
  };
}

const cases = goldenCases<EvaluationCase>("evaluation.json");

describe("evaluation against the reference", () => {
  if (cases === undefined)
    test("has cases", { skip: "evaluation.json is not in the golden folder" });
  for (const [name, golden] of cases ?? []) {
    const dimension = golden.dim;
    const query = setOf(golden, "query");
    const gallery = setOf(golden, "gallery");
    const maxRank = golden.cmc?.length ?? 50;

    test(`${name}: mAP and CMC agree`, async () => {
      const found = await evaluate(query, gallery, { dimension, maxRank });
      if (golden.mAP !== undefined)
        assertClose([found.mAP], [golden.mAP], FIGURE_TOLERANCE);
      if (golden.cmc !== undefined)
        assertClose(found.cmc, golden.cmc, FIGURE_TOLERANCE);
    });

    test(
      `${name}: re-ranked distances and their mAP agree`,
      { skip: golden.rerank === undefined && "no rerank given" },
      async () => {
        const { k1, k2, lam, mAP, distances } = golden.rerank ?? {
          k1: 0,
          k2: 0,
          lam: 0,
        };
        const options = { k1, k2, lambda: lam };
        if (distances !== undefined) {
          const input = {
            queries: query.features,
            gallery: gallery.features,
            dimension,
          };
          const rows: number[] = [];
          for await (const block of rerankedDistanceBlocks(input, options))
            rows.push(...block.distances);
          assertClose(rows, distances, DISTANCE_TOLERANCE);
        }
        if (mAP === undefined) return;
        const found = await evaluate(query, gallery, {
          dimension,
          rerank: options,
        });
        assertClose([found.mAP], [mAP], FIGURE_TOLERANCE);
      },
    );
  }
});

function setOf(
  golden: EvaluationCase,
  part: "query" | "gallery",
): EvaluationSet {
  return {
    features: Float32Array.from(golden[`${part}_features`]),
    identities: Int32Array.from(golden[`${part}_ids`]),
    cameras: Int32Array.from(golden[`${part}_cams`]),
  };
}
