import { compareIds } from "./gallery-rows.js";
import {
  rowsAt,
  searchRows,
  type RankedRows,
  type SearchScope,
} from "./gallery-search.js";
import type { GroupOptions, SearchRequest } from "./gallery-types.js";
import { Turns } from "./turns.js";

/** Entries that one identity has among those found, best first. */
export interface IdentityGroup<Found> {
  /** Empty: one entry without identity. */
  readonly identity: string;
  /** 1 to `hitsPerIdentity`. */
  readonly hits: readonly Found[];
}

/** What a grouped search asks for. */
type GroupedRequest = SearchRequest & { readonly group: GroupOptions };

/** Entries fetched in the first round, at least: identities mostly have several. */
const leastFetched = 64;

/**
 * The first k identities of a ranking, each with its first hits. An entry without identity is a group of its own.
 *
 * Long rankings are walked in turns, so that other calls are answered meanwhile.
 *
 * @param ranked  best first
 */
export async function groupByIdentity<Found>(
  ranked: readonly Found[],
  identityOf: (found: Found) => string,
  { k, hitsPerIdentity }: GroupOptions & { readonly k: number },
): Promise<readonly IdentityGroup<Found>[]> {
  const groups: { identity: string; hits: Found[] }[] = [];
  const named = new Map<string, Found[]>();
  const turns = new Turns();
  for (const found of ranked) {
    if (turns.isOver) await turns.next();
    const identity = identityOf(found);
    const hits = identity === "" ? undefined : named.get(identity);
    if (hits !== undefined) {
      if (hits.length < hitsPerIdentity) hits.push(found);
    } else if (groups.length < k) {
      const group = { identity, hits: [found] };
      groups.push(group);
      if (identity !== "") named.set(identity, group.hits);
    }
  }
  return groups;
}

/** The nearest entries of each query, grouped where the request says so. @returns  [Q], by falling similarity */
export function searchRanked(
  scope: SearchScope,
  request: SearchRequest,
  dimension: number,
): Promise<RankedRows[]> {
  const { group } = request;
  return group === undefined
    ? searchRows(scope, request, dimension)
    : searchGroups(scope, { ...request, group }, dimension);
}

/**
 * The nearest entries of each query, k identities with at most `hitsPerIdentity` entries each.
 *
 * Fewer identities mean that no further entry passes filter and `minSimilarity`; fewer hits of one mean that
 * it has no further entry that does.
 *
 * @returns [Q], by falling similarity: grouped again they give the same groups
 */
async function searchGroups(
  scope: SearchScope,
  request: GroupedRequest,
  dimension: number,
): Promise<RankedRows[]> {
  const { k, group, queries, queryFilters = [] } = request;
  const results: RankedRows[] = [];
  let open = Array.from(
    { length: queries.length / dimension },
    (_, query) => query,
  );
  let fetched = Math.max(leastFetched, 2 * k * group.hitsPerIdentity);
  for (; open.length > 0; fetched *= 2) {
    const found = await searchRows(
      scope,
      {
        ...request,
        k: fetched,
        queries: rowsAt(queries, open, dimension),
        queryFilters: open.map((query) => queryFilters[query]),
      },
      dimension,
    );
    const unfilled: number[] = [];
    for (const [i, query] of open.entries()) {
      const { rows, exact } = found[i];
      const isAll = rows.length < fetched;
      const groups = await groupRows(rows, request);
      if (groups.length < k && !isAll) unfilled.push(query);
      else {
        const filled = isAll
          ? groups
          : await fillGroups(groups, {
              scope,
              request,
              dimension,
              query,
            });
        results[query] = {
          rows: sorted(filled.flatMap(({ hits }) => hits)),
          exact,
        };
      }
    }
    open = unfilled;
  }
  return results;
}

type RankedRow = RankedRows["rows"][number];

function groupRows(
  rows: readonly RankedRow[],
  { k, group }: GroupedRequest,
): Promise<readonly IdentityGroup<RankedRow>[]> {
  return groupByIdentity(rows, ({ row }) => row.identity, { ...group, k });
}

/** Compares with every entry of the identities whose hits may be missing farther away. */
async function fillGroups(
  groups: readonly IdentityGroup<RankedRow>[],
  of: {
    readonly scope: SearchScope;
    readonly request: GroupedRequest;
    readonly dimension: number;
    readonly query: number;
  },
): Promise<readonly IdentityGroup<RankedRow>[]> {
  const { scope, request, dimension, query } = of;
  const { queries, queryFilters = [], group } = request;
  const entriesOf = (identity: string): number =>
    scope.rows.countOfIdentity(identity);
  const short = groups.filter(
    ({ identity, hits }) =>
      identity !== "" &&
      hits.length < group.hitsPerIdentity &&
      hits.length < entriesOf(identity),
  );
  if (short.length === 0) return groups;
  // They passed every filter that names identities, so this list may take the place of the query's own.
  const identityIn = short.map(({ identity }) => identity);
  const [more] = await searchRows(
    scope,
    {
      ...request,
      mode: "exact",
      k: identityIn.reduce((sum, identity) => sum + entriesOf(identity), 0),
      queries: queries.subarray(query * dimension, (query + 1) * dimension),
      queryFilters: [{ ...queryFilters[query], identityIn }],
    },
    dimension,
  );
  const wanted = new Set(identityIn);
  const others = groups.filter(({ identity }) => !wanted.has(identity));
  return groupRows(
    sorted([...others.flatMap(({ hits }) => hits), ...more.rows]),
    request,
  );
}

function sorted(rows: readonly RankedRow[]): readonly RankedRow[] {
  return [...rows].sort(
    (a, b) =>
      b.similarity - a.similarity || compareIds(a.row.entryId, b.row.entryId),
  );
}
