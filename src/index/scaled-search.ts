import type { Session } from "#core/postgres";

import type { Filter } from "./filter.js";
import { hasConditions } from "./filter-walk.js";
import { featureFromBytes } from "./gallery-records.js";
import { compareIds } from "./gallery-rows.js";
import type { SearchRequest } from "./gallery-types.js";
import { isLossy } from "./index-kinds.js";
import { milvusLimit, type MilvusHits } from "./milvus.js";
import type { ScaledContext } from "./scaled-context.js";
import { compareAll, product, type Candidate } from "./scaled-exact.js";
import { expressionFrom, sqlFrom, type SqlCondition } from "./scaled-filter.js";
import {
  collectionOf,
  viewColumns,
  type EntryRow,
  type ScaledRecord,
} from "./scaled-records.js";

/** An entry found for one query, with its row. */
export interface ScaledHit {
  readonly row: EntryRow;
  readonly similarity: number;
}

/** What was found for one query. */
export interface ScaledHits {
  /** By falling similarity, ties by entry id. */
  readonly hits: readonly ScaledHit[];
  readonly exact: boolean;
}

/** What a search runs over: one state of PostgreSQL, from which no vector is taken while it runs. */
export interface ScaledScope {
  readonly context: ScaledContext;
  /** In a snapshot transaction. */
  readonly session: Session;
  readonly number: number;
  readonly record: ScaledRecord;
  readonly nowUs: number;
}

/** Hits fetched beyond k: stale ones are dropped, and ties with the k-th are seen. */
const beyond = 8;

/** Queries that have the same filters. */
interface Group {
  readonly queries: readonly Float32Array[];
  readonly filters: readonly (Filter | undefined)[];
}

/** Entries that live and pass the filters, as a condition. @param taken  values that the statement has before */
function alive(
  nowUs: number,
  filters: Group["filters"],
  taken: number,
): SqlCondition {
  const { text, values } = sqlFrom(filters, taken + 1);
  return {
    text: `(expires_at_us IS NULL OR expires_at_us > $${taken + 1}) AND ${text}`,
    values: [nowUs, ...values],
  };
}

/** How many entries pass, counted no further than a limit. */
async function survivors(
  { session, number, nowUs }: ScaledScope,
  filters: Group["filters"],
  limit: number,
): Promise<number> {
  const condition = alive(nowUs, filters, 2);
  const [{ count }] = await session.query<{ count: number }>(
    `SELECT count(*) AS count FROM (
       SELECT 1 FROM entries WHERE gallery = $1 AND ${condition.text} LIMIT $2
     ) AS few`,
    [number, limit, ...condition.values],
  );
  return count;
}

/** The rows of candidates that live and pass, by sequence: what Milvus says is only a proposal. */
async function rowsOf(
  { session, number, nowUs }: ScaledScope,
  filters: Group["filters"],
  of: {
    readonly sequences: readonly number[];
    readonly columns: string;
  },
): Promise<ReadonlyMap<number, EntryRow>> {
  if (of.sequences.length === 0) return new Map();
  const condition = alive(nowUs, filters, 2);
  const rows = await session.query<EntryRow>(
    `SELECT ${of.columns} FROM entries
     WHERE gallery = $1 AND sequence = ANY ($2::bigint[]) AND ${condition.text}`,
    [number, [...new Set(of.sequences)], ...condition.values],
  );
  return new Map(rows.map((row) => [row.sequence, row]));
}

/** @param isMeasured  whether features are needed to measure hits again */
function columnsOf(
  { view = "basic", withFeatures }: SearchRequest,
  isMeasured = false,
): string {
  const columns = viewColumns[view];
  const needsFeature = withFeatures === true || isMeasured;
  return needsFeature && view !== "feature" ? `${columns}, feature` : columns;
}

function ranked(
  candidates: readonly Candidate[],
  rows: ReadonlyMap<number, EntryRow>,
): ScaledHit[] {
  const found = new Map<number, ScaledHit>();
  for (const { sequence, similarity } of candidates) {
    const row = rows.get(sequence);
    // The tail and Milvus may both have it: it came while the search was under way.
    if (row !== undefined && !found.has(sequence))
      found.set(sequence, { row, similarity });
  }
  return [...found.values()].sort(
    (a, b) =>
      b.similarity - a.similarity || compareIds(a.row.entry_id, b.row.entry_id),
  );
}

function cut(
  hits: readonly ScaledHit[],
  { k, minSimilarity = -Infinity }: SearchRequest,
): ScaledHit[] {
  return hits
    .slice(0, k)
    .filter(({ similarity }) => similarity >= minSimilarity);
}

async function exactly(
  scope: ScaledScope,
  request: SearchRequest,
  { queries, filters }: Group,
): Promise<ScaledHits[]> {
  const { session, number, record, nowUs } = scope;
  const compared = await compareAll(
    session,
    {
      number,
      dimension: record.dimension,
      from: "entries",
      condition: alive(nowUs, filters, 3),
    },
    { queries, limit: request.k, signal: request.signal },
  );
  const rows = await rowsOf(scope, filters, {
    sequences: compared.flat().map(({ sequence }) => sequence),
    columns: columnsOf(request),
  });
  return compared.map((candidates) => ({
    hits: cut(ranked(candidates, rows), request),
    exact: true,
  }));
}

/** Asks Milvus, compares the tail one by one, and drops what PostgreSQL does not hold. */
async function byIndex(
  scope: ScaledScope,
  request: SearchRequest,
  group: Group,
): Promise<ScaledHits[]> {
  const { context, session, number, record, nowUs } = scope;
  const { queries, filters } = group;
  const { k, effort, freshness = "acknowledged", minSequence = 0 } = request;
  const { signal } = request;
  const expected = await survivors(scope, filters, k);
  if (expected === 0) return queries.map(() => ({ hits: [], exact: true }));
  const tail =
    freshness === "indexed"
      ? queries.map((): readonly Candidate[] => [])
      : await compareAll(
          session,
          {
            number,
            dimension: record.dimension,
            from: "tail",
            condition: alive(nowUs, filters, 3),
          },
          { queries, limit: k + beyond, signal },
        );
  for (let limit = k + beyond; ; limit *= 2) {
    limit = Math.min(limit, milvusLimit);
    const found = await context.milvus.search(
      collectionOf(context.deployment, number, record.generation),
      {
        queries,
        limit,
        expression: expressionFrom(filters),
        spec: record.index,
        effort,
        // What Milvus has answered for, a bounded read may still not see.
        consistency:
          freshness === "indexed" && minSequence === 0 ? "bounded" : "strong",
      },
    );
    signal?.throwIfAborted();
    const candidates = found.map((hits, q) => [
      ...tail[q],
      ...candidatesOf(hits),
    ]);
    const rows = await rowsOf(scope, filters, {
      sequences: candidates.flat().map(({ sequence }) => sequence),
      columns: columnsOf(request, isLossy(record.index)),
    });
    const hits = candidates.map((one, q) =>
      ranked(
        isLossy(record.index) ? measured(one, rows, queries[q]) : one,
        rows,
      ),
    );
    const isShort = hits.some((one) => one.length < Math.min(k, expected));
    const isCut = found.some(
      ({ ids, similarities }, q) =>
        ids.length === limit &&
        (hits[q].length < k ||
          hits[q][k - 1].similarity <= (similarities.at(-1) ?? -Infinity)),
    );
    if (isCut && limit < milvusLimit) continue;
    // With INDEXED an entry that is not in the index need not be found.
    if (isShort && freshness !== "indexed")
      return exactly(scope, request, group);
    return hits.map((one) => ({
      hits: cut(one, request),
      exact: record.index.kind === "flat",
    }));
  }
}

/** Candidates with the similarity of their features: a compressed index only comes near it. */
function measured(
  candidates: readonly Candidate[],
  rows: ReadonlyMap<number, EntryRow>,
  query: Float32Array,
): readonly Candidate[] {
  return candidates.map(({ sequence, similarity }) => {
    const bytes = rows.get(sequence)?.feature;
    return {
      sequence,
      similarity:
        bytes === undefined
          ? similarity
          : product(query, featureFromBytes(bytes)),
    };
  });
}

function candidatesOf({ ids, similarities }: MilvusHits): Candidate[] {
  return ids.map((sequence, i) => ({ sequence, similarity: similarities[i] }));
}

/**
 * The nearest entries of each query.
 *
 * Queries with the same filter are searched together. A filter that leaves few entries, or an index that comes back
 * short, makes the search exact.
 *
 * @returns [Q]
 * @throws {MilvusUnavailableError} @throws {SearchCancelledError}
 */
export async function searchScaled(
  scope: ScaledScope,
  request: SearchRequest,
): Promise<readonly ScaledHits[]> {
  const { dimension } = scope.record;
  const { queries, queryFilters = [], filter, mode } = request;
  const groups = new Map<Filter | undefined, number[]>();
  for (let q = 0; q < queries.length / dimension; q++) {
    const positions = groups.get(queryFilters[q]) ?? [];
    positions.push(q);
    groups.set(queryFilters[q], positions);
  }
  const results: ScaledHits[] = [];
  for (const [own, positions] of groups) {
    const filters = [filter, own];
    const group: Group = {
      filters,
      queries: positions.map((q) =>
        queries.subarray(q * dimension, (q + 1) * dimension),
      ),
    };
    const isSelective =
      filters.some((one) => hasConditions(one)) &&
      (await survivors(scope, filters, scope.context.exactBelow)) <
        scope.context.exactBelow;
    const found =
      mode === "exact" || isSelective
        ? await exactly(scope, request, group)
        : await byIndex(scope, request, group);
    positions.forEach((q, i) => (results[q] = found[i]));
  }
  return results;
}
