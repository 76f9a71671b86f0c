import type { GalleryIndex, Found } from "./gallery-index.js";
import { compareIds, type GalleryRows, type Row } from "./gallery-rows.js";
import type { SearchRequest } from "./gallery-types.js";
import { SearchCancelledError } from "./errors.js";
import type { Filter } from "./filter.js";
import { isScanBetter } from "./filter-plan.js";
import { compileFilter, type CompiledFilter } from "./filter-walk.js";
import { isLossy } from "./index-kinds.js";
import { oversampled, remeasure, type FeatureSource } from "./remeasure.js";
import { Turns } from "./turns.js";

/** Entries found for one query. */
export interface RankedRows {
  readonly rows: readonly { readonly row: Row; readonly similarity: number }[];
  readonly exact: boolean;
}

/** What a search runs over; nothing of it changes while the search runs. */
export interface SearchScope {
  readonly rows: GalleryRows;
  readonly index: GalleryIndex;
  readonly nowUs: number;
  /** Setting `search.exact_below`: {@link isScanBetter}. */
  readonly exactBelow: number;
  /** Features as they were enrolled, for an index that does not keep them so. */
  readonly features: FeatureSource;
}

// Hits fetched beyond k, to see whether the k-th ties with those behind it.
const beyond = 8;
/** Hits ranked in one turn of the main thread. */
const rankedAtOnce = 1024;

interface Pass {
  readonly filter: CompiledFilter;
  readonly mode: "index" | "exact";
}

/** Rows of one query by falling similarity, ties by entry id, at most k, none below the least similarity. */
async function rank(
  rows: GalleryRows,
  { ids, similarities }: Found,
  {
    request,
    turns,
  }: { readonly request: SearchRequest; readonly turns: Turns },
): Promise<RankedRows["rows"]> {
  const { k, minSimilarity = -Infinity } = request;
  const ranked: { row: Row; similarity: number }[] = [];
  let isTied = false;
  for (const [i, id] of ids.entries()) {
    const row = rows.at(id);
    if (row !== undefined) ranked.push({ row, similarity: similarities[i] });
    isTied ||= i > 0 && similarities[i] === similarities[i - 1];
    if (turns.isOver) await turns.next();
  }
  // They come by falling similarity: only ties change places.
  if (isTied)
    ranked.sort(
      (a, b) =>
        b.similarity - a.similarity || compareIds(a.row.entryId, b.row.entryId),
    );
  return ranked
    .slice(0, k)
    .filter(({ similarity }) => similarity >= minSimilarity);
}

/** Ranks what was found for each query, in turns. @returns [Q] */
async function rankAll<Query extends Found>(
  rows: GalleryRows,
  queries: readonly Query[],
  request: SearchRequest,
  isExact: (query: Query) => boolean,
): Promise<RankedRows[]> {
  const turns = new Turns(rankedAtOnce);
  const ranked: RankedRows[] = [];
  for (const query of queries)
    ranked.push({
      rows: await rank(rows, query, { request, turns }),
      exact: isExact(query),
    });
  return ranked;
}

/** Whether entries behind the last one found could have the k-th similarity too. */
function isCutInTie({ similarities }: Found, k: number): boolean {
  return similarities.length > k && similarities[k - 1] === similarities.at(-1);
}

async function searchGroup(
  scope: SearchScope,
  request: SearchRequest,
  queries: Float32Array,
  pass: Pass,
): Promise<RankedRows[]> {
  const { index, rows } = scope;
  const { dimension } = index.main;
  const { k, effort, freshness = "acknowledged", signal } = request;
  const { ids: filter, survivors } = pass.filter;
  let { mode } = pass;
  const wanted = isLossy(index.main.spec) ? k * oversampled : k;
  let fetched = Math.min(wanted + beyond, survivors);
  for (;;) {
    const found = await index.search(
      queries,
      {
        k: fetched,
        mode,
        ...(filter === undefined ? {} : { filter }),
        ...(effort === undefined ? {} : { effort }),
        ...(signal === undefined ? {} : { signal }),
      },
      freshness,
    );
    const exact = found.exact || mode === "exact";
    const isShort = found.queries.some(({ ids }) => ids.length < fetched);
    if (isShort && !exact) {
      mode = "exact";
      continue;
    }
    if (found.error > 0) {
      const isAll = exact && (isShort || fetched >= survivors);
      const measured = await Promise.all(
        found.queries.map((query, q) =>
          remeasure(query, rowsAt(queries, [q], dimension), scope.features, {
            error: found.error,
            k,
            isAll,
          }),
        ),
      );
      const isCertain = measured.every((query) => query.isCertain);
      if (mode === "exact" && !isCertain) {
        fetched = Math.min(fetched * oversampled, survivors);
        continue;
      }
      return rankAll(
        rows,
        measured,
        request,
        (query) => exact && query.isCertain,
      );
    }
    const tied = found.queries.some((query) => isCutInTie(query, k));
    if (tied && fetched < survivors) {
      fetched = Math.min(fetched * 2, survivors);
      continue;
    }
    return rankAll(rows, found.queries, request, () => exact);
  }
}

/**
 * The nearest entries of each query.
 *
 * Queries with the same filter are searched together. A filter that leaves few entries, or an index
 * that comes back short, makes the search exact.
 *
 * @returns [Q]
 */
export async function searchRows(
  scope: SearchScope,
  request: SearchRequest,
  dimension: number,
): Promise<RankedRows[]> {
  const { queries, queryFilters = [] } = request;
  const count = queries.length / dimension;
  const groups = new Map<Filter | undefined, number[]>();
  for (let q = 0; q < count; q++) {
    const positions = groups.get(queryFilters[q]) ?? [];
    positions.push(q);
    groups.set(queryFilters[q], positions);
  }
  const results: RankedRows[] = Array.from({ length: count }, () => ({
    rows: [],
    exact: true,
  }));
  const searchOne = async (
    filter: CompiledFilter,
    positions: readonly number[],
  ): Promise<void> => {
    if (filter.survivors === 0) return;
    const isScanned =
      filter.ids !== undefined &&
      isScanBetter({
        spec: scope.index.main.spec,
        entries: scope.rows.size,
        survivors: filter.survivors,
        k: request.k + beyond,
        effort: request.effort,
        exactBelow: scope.exactBelow,
      });
    const mode = request.mode === "exact" || isScanned ? "exact" : "index";
    const found = await searchGroup(
      scope,
      request,
      rowsAt(queries, positions, dimension),
      { filter, mode },
    );
    positions.forEach((q, i) => (results[q] = found[i]));
  };
  const searches: Promise<void>[] = [];
  try {
    // Filters one after another, so that one turn of the main thread looks at few rows; searches beside them.
    for (const [own, positions] of groups) {
      const filters = [request.filter, own];
      const filter = await compileFilter(scope.rows, filters, scope.nowUs);
      if (request.signal?.aborted === true) throw new SearchCancelledError();
      const search = searchOne(filter, positions);
      // Waited for below, also where a filter comes to nothing: until then its failure is nobody's surprise.
      search.catch(() => undefined);
      searches.push(search);
    }
  } finally {
    await Promise.allSettled(searches);
  }
  await Promise.all(searches);
  return results;
}

/** Some of the queries. @returns  float32 [positions, D]; the queries themselves where it is all of them */
export function rowsAt(
  queries: Float32Array,
  positions: readonly number[],
  dimension: number,
): Float32Array {
  if (positions.length * dimension === queries.length) return queries;
  const rows = new Float32Array(positions.length * dimension);
  positions.forEach((q, i) => {
    rows.set(
      queries.subarray(q * dimension, (q + 1) * dimension),
      i * dimension,
    );
  });
  return rows;
}
