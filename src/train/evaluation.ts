import { ShapeError } from "#core/errors";

import { EvaluationSetError } from "./errors.js";
import { rerankedDistanceBlocks, type RerankOptions } from "./reranking.js";
import {
  squaredDistanceBlocks,
  type DistanceBlock,
  type Similarities,
} from "./similarity-blocks.js";

/** Queries, or a gallery. */
export interface EvaluationSet {
  /** float32 [M, D], unit rows; only read. */
  readonly features: Float32Array;
  /** int32 [M]: ≥ 0; 0 is a distractor in Market-1501 and stays, junk (−1) must not be here. */
  readonly identities: Int32Array;
  /** int32 [M]: camera ids. */
  readonly cameras: Int32Array;
}

/** How retrieval is judged. */
export interface EvaluationOptions {
  /** D. */
  readonly dimension: number;
  /** Ranks of the CMC; 50 by default. */
  readonly maxRank?: number;
  /** Entries with the query's identity and camera: `removed`, the default, or `kept` (VehicleID has no cameras). */
  readonly sameCamera?: "removed" | "kept";
  /** Re-ranks by k-reciprocal encoding before judging. */
  readonly rerank?: RerankOptions | undefined;
  /** An engine's matrix product; plain loops where absent. */
  readonly similarities?: Similarities | undefined;
}

/** How well a gallery is found. */
export interface Evaluation {
  /** [0, 1], larger is better. */
  readonly mAP: number;
  /** float64 [maxRank]: cmc[k − 1] is rank-k, [0, 1]. */
  readonly cmc: Float64Array;
  /** Queries given. */
  readonly queries: number;
  /** Queries without any correct entry, left out of both figures. */
  readonly skippedQueries: number;
  /** Gallery entries given. */
  readonly gallery: number;
}

/** One query's figures. */
export interface QueryFigures {
  /** Step integral of precision over recall, tied distances grouped. */
  readonly averagePrecision: number;
  /** Rank of the first correct entry, from 1; ties in gallery order. */
  readonly firstRank: number;
}

/** What an entry is to a query. */
export const entryRoles = { removed: 0, wrong: 1, correct: 2 } as const;

/** Ranks of the CMC that people read. */
const DEFAULT_MAX_RANK = 50;

/**
 * mAP and CMC of queries against a gallery, by squared L2 distance of unit features.
 *
 * Distances are computed in blocks of 64 MiB. A query without a correct entry is skipped.
 *
 * Source: protocol of Zheng et al. 2015 (Market-1501) as in yxgeee/SpCL
 * spcl/evaluation_metrics/ranking.py, mean_ap and cmc (first match break).
 *
 * @throws {ShapeError} features, identities and cameras do not fit each other
 * @throws {EvaluationSetError} a set is empty or holds junk, or no query has a correct entry
 */
export async function evaluate(
  query: EvaluationSet,
  gallery: EvaluationSet,
  options: EvaluationOptions,
): Promise<Evaluation> {
  checkSet("query", query, options.dimension);
  checkSet("gallery", gallery, options.dimension);
  const maxRank = options.maxRank ?? DEFAULT_MAX_RANK;
  const cmc = new Float64Array(maxRank);
  const entries = gallery.identities.length;
  const roles = new Uint8Array(entries);
  let sum = 0;
  let judged = 0;
  for await (const block of distanceBlocks(query, gallery, options))
    for (let r = 0; r < block.count; r++) {
      const isRemoving = options.sameCamera !== "kept";
      assignRoles(query, block.first + r, { gallery, isRemoving, roles });
      const figures = judgeQuery(
        block.distances.subarray(r * entries, (r + 1) * entries),
        roles,
      );
      if (figures === undefined) continue;
      judged++;
      sum += figures.averagePrecision;
      for (let k = figures.firstRank; k <= maxRank; k++) cmc[k - 1]++;
    }
  if (judged === 0)
    throw new EvaluationSetError(
      "query",
      "no query with its identity under another camera in the gallery",
      "evaluate queries whose identities the gallery holds",
    );
  return {
    mAP: sum / judged,
    cmc: cmc.map((found) => found / judged),
    queries: query.identities.length,
    skippedQueries: query.identities.length - judged,
    gallery: entries,
  };
}

/**
 * Average precision and first rank of one query, in O(G log matches) without sorting the gallery.
 *
 *     AP = Σ over distances t of correct entries (recall(t) − recall(before t)) · precision(t)
 *
 * All entries at one distance count together, as in sklearn's average_precision_score.
 *
 * @param distances  [G], smaller is closer
 * @param roles      [G], of `entryRoles`
 * @returns          undefined where no entry is correct
 */
export function judgeQuery(
  distances: Float32Array,
  roles: Uint8Array,
): QueryFigures | undefined {
  const correct: number[] = [];
  for (let g = 0; g < distances.length; g++)
    if (roles[g] === entryRoles.correct) correct.push(distances[g]);
  if (correct.length === 0) return undefined;
  correct.sort((a, b) => a - b);
  const steps = [...new Set(correct)];
  // above[s]: entries nearer than or as near as step s but farther than step s − 1.
  const within = new Int32Array(steps.length);
  const matches = new Int32Array(steps.length);
  let firstRank = 1;
  let isFirstFound = false;
  for (let g = 0; g < distances.length; g++) {
    if (roles[g] === entryRoles.removed) continue;
    const isCorrect = roles[g] === entryRoles.correct;
    const step = stepOf(steps, distances[g]);
    if (step < steps.length) {
      within[step]++;
      if (isCorrect) matches[step]++;
    }
    if (distances[g] < steps[0]) firstRank++;
    else if (distances[g] === steps[0] && !isFirstFound) {
      if (isCorrect) isFirstFound = true;
      else firstRank++;
    }
  }
  let averagePrecision = 0;
  let seen = 0;
  let found = 0;
  for (let s = 0; s < steps.length; s++) {
    seen += within[s];
    found += matches[s];
    averagePrecision += (matches[s] / correct.length) * (found / seen);
  }
  return { averagePrecision, firstRank };
}

function distanceBlocks(
  query: EvaluationSet,
  gallery: EvaluationSet,
  options: EvaluationOptions,
): AsyncIterable<DistanceBlock> {
  const { dimension, similarities, rerank } = options;
  if (rerank === undefined)
    return squaredDistanceBlocks(
      query.features,
      gallery.features,
      dimension,
      similarities,
    );
  return rerankedDistanceBlocks(
    {
      queries: query.features,
      gallery: gallery.features,
      dimension,
      similarities,
    },
    rerank,
  );
}

function assignRoles(
  query: EvaluationSet,
  q: number,
  {
    gallery,
    isRemoving,
    roles,
  }: { gallery: EvaluationSet; isRemoving: boolean; roles: Uint8Array },
): void {
  const identity = query.identities[q];
  const camera = query.cameras[q];
  for (let g = 0; g < roles.length; g++)
    if (gallery.identities[g] !== identity) roles[g] = entryRoles.wrong;
    else if (isRemoving && gallery.cameras[g] === camera)
      roles[g] = entryRoles.removed;
    else roles[g] = entryRoles.correct;
}

/** First step that is not nearer than `distance`; as many as there are where none is. */
function stepOf(steps: readonly number[], distance: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < distance) low = middle + 1;
    else high = middle;
  }
  return low;
}

function checkSet(name: string, set: EvaluationSet, dimension: number): void {
  const count = set.identities.length;
  if (set.features.length !== count * dimension)
    throw new ShapeError(
      `${name} features`,
      `[${count}, ${dimension}]`,
      `${set.features.length} numbers`,
    );
  if (set.cameras.length !== count)
    throw new ShapeError(
      `${name} cameras`,
      `[${count}]`,
      `[${set.cameras.length}]`,
    );
  if (count === 0)
    throw new EvaluationSetError(name, "no crop", "give it at least one");
  if (set.identities.includes(-1))
    throw new EvaluationSetError(
      name,
      "crops of identity -1 (junk)",
      "leave them out when reading the data set",
    );
}
