import { groupByIdentity } from "./gallery-groups.js";
import type { GroupOptions, SearchRequest } from "./gallery-types.js";
import {
  searchScaled,
  type ScaledHit,
  type ScaledHits,
  type ScaledScope,
} from "./scaled-search.js";

type GroupedRequest = SearchRequest & { readonly group: GroupOptions };

/** Entries fetched in the first round, at least: identities mostly have several. */
const leastFetched = 64;

const identityOf = ({ row }: ScaledHit): string => row.identity;

/**
 * The nearest entries of each query, k identities with at most `hitsPerIdentity` entries each.
 *
 * The promise is that of the embedded engine: fewer identities mean that there are no more, fewer hits of one that it
 * has no more.
 *
 * @returns [Q]
 */
export async function searchScaledGroups(
  scope: ScaledScope,
  request: GroupedRequest,
): Promise<readonly ScaledHits[]> {
  const { dimension } = scope.record;
  const { queries, queryFilters = [] } = request;
  const results: ScaledHits[] = [];
  for (let q = 0; q < queries.length / dimension; q++)
    results.push(
      await searchOne(scope, {
        ...request,
        queries: queries.subarray(q * dimension, (q + 1) * dimension),
        queryFilters: [queryFilters[q]],
      }),
    );
  return results;
}

async function searchOne(
  scope: ScaledScope,
  request: GroupedRequest,
): Promise<ScaledHits> {
  const { k, group } = request;
  const options = { ...group, k };
  let fetched = Math.max(leastFetched, 2 * k * group.hitsPerIdentity);
  for (; ; fetched *= 2) {
    const [{ hits, exact }] = await searchScaled(scope, {
      ...request,
      k: fetched,
    });
    const isAll = hits.length < fetched;
    const groups = await groupByIdentity(hits, identityOf, options);
    if (groups.length < k && !isAll) continue;
    const short = groups
      .filter((one) => one.hits.length < group.hitsPerIdentity)
      .map(({ identity }) => identity)
      .filter((identity) => identity !== "");
    if (isAll || short.length === 0)
      return { hits: groups.flatMap((one) => one.hits).sort(order), exact };
    // They passed every filter that names identities, so this list may take the place of the query's own.
    const [more] = await searchScaled(scope, {
      ...request,
      mode: "exact",
      k: await entriesOf(scope, short),
      queryFilters: [{ ...request.queryFilters?.[0], identityIn: short }],
    });
    const wanted = new Set(short);
    const others = groups.filter(({ identity }) => !wanted.has(identity));
    const all = [...others.flatMap((one) => one.hits), ...more.hits];
    const filled = await groupByIdentity(all.sort(order), identityOf, options);
    return { hits: filled.flatMap((one) => one.hits).sort(order), exact };
  }
}

/** How many entries some identities have. */
async function entriesOf(
  { session, number }: ScaledScope,
  identities: readonly string[],
): Promise<number> {
  const [{ count }] = await session.query<{ count: number }>(
    "SELECT coalesce(sum(entries), 1)::bigint AS count FROM identities WHERE gallery = $1 AND identity = ANY ($2::text[])",
    [number, identities],
  );
  return count;
}

function order(a: ScaledHit, b: ScaledHit): number {
  return (
    b.similarity - a.similarity ||
    Buffer.compare(Buffer.from(a.row.entry_id), Buffer.from(b.row.entry_id))
  );
}
