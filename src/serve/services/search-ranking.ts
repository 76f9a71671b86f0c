import { EntryNotFoundError } from "#index/errors";
import type { Gallery } from "#index/galleries";
import { groupByIdentity } from "#index/gallery-groups";
import type { Entry, EntryView, QueryHits } from "#index/gallery-types";
import type { ServiceContext } from "./context.js";
import type { Reranking, SearchEnvelope } from "./search-envelope.js";
import type { ReadyQuery } from "./search-queries.js";

/** Numbers of candidates' features that are held at once; 64 MiB. */
const MAX_NUMBERS = 16 * 1024 * 1024;

/** One hit, re-ranked or not. */
export interface RankedHit {
  readonly entry: Entry;
  readonly similarity: number;
  /** [0, 1], smaller is closer; only where re-ranking was asked for. */
  readonly rerankDistance?: number;
}

/** Hits of one query, best first; with grouping those of k identities. */
export interface RankedHits {
  readonly hits: readonly RankedHit[];
  readonly exact: boolean;
}

/** A search to be made. */
export interface RankingRequest {
  readonly gallery: Gallery;
  readonly envelope: SearchEnvelope;
  readonly queries: readonly ReadyQuery[];
  readonly dimension: number;
  readonly signal: AbortSignal;
}

/** What a search found. */
export interface Ranking {
  /** As the queries. */
  readonly results: readonly RankedHits[];
  /** Every write up to here was seen by each of them. */
  readonly sequence: number;
}

/** Searches a gallery as the envelope says: by similarity or re-ranked, grouped or not. */
export function rank(
  context: ServiceContext,
  request: RankingRequest,
): Promise<Ranking> {
  const { rerank } = request.envelope;
  return rerank === undefined
    ? rankBySimilarity(request)
    : rankAgain(context, request, rerank);
}

async function rankBySimilarity(request: RankingRequest): Promise<Ranking> {
  const { gallery, envelope } = request;
  const { k, view, group, search } = envelope;
  return gallery.search({
    ...search,
    ...queriesOf(request, request.queries),
    k,
    view,
    ...(group === undefined ? {} : { group }),
  });
}

/**
 * Re-ranks each query's candidates, as many queries at a time as memory allows.
 *
 * Each query sees one state of the gallery; the sequence is that of the oldest.
 */
async function rankAgain(
  context: ServiceContext,
  request: RankingRequest,
  rerank: Reranking,
): Promise<Ranking> {
  const { gallery, envelope, queries, dimension } = request;
  const size = rerank.candidates * dimension;
  const atOnce = Math.max(1, Math.floor(MAX_NUMBERS / size));
  const results: RankedHits[] = [];
  let sequence = Infinity;
  for (let start = 0; start < Math.max(1, queries.length); start += atOnce) {
    const share = queries.slice(start, start + atOnce);
    const found = await gallery.search({
      ...envelope.search,
      ...queriesOf(request, share),
      k: rerank.candidates,
      // Features come beside the hits, crops of those that are left in the end.
      view: envelope.view === "basic" ? "basic" : "full",
      withFeatures: true,
    });
    sequence = Math.min(sequence, found.sequence);
    for (const [i, candidates] of found.results.entries()) {
      request.signal.throwIfAborted();
      results.push(
        await rerankOne(context, request, {
          query: share[i],
          candidates,
          rerank,
        }),
      );
    }
  }
  return { results, sequence };
}

async function rerankOne(
  context: ServiceContext,
  { gallery, envelope, dimension }: RankingRequest,
  of: {
    readonly query: ReadyQuery;
    readonly candidates: QueryHits;
    readonly rerank: Reranking;
  },
): Promise<RankedHits> {
  const { hits, exact, features = new Float32Array() } = of.candidates;
  if (hits.length === 0) return { hits: [], exact };
  const rows = new Float32Array(dimension + features.length);
  rows.set(of.query.feature);
  rows.set(features, dimension);
  const { candidates: _, ...settings } = of.rerank;
  const distances = await context.reranker.rerank(
    { features: rows, dimension },
    settings,
  );
  const order = [...hits.keys()].sort((a, b) => distances[a] - distances[b]);
  const { k, group } = envelope;
  const chosen =
    group === undefined
      ? order.slice(0, k)
      : await firstOfIdentities(order, hits, { ...group, k });
  return {
    hits: await Promise.all(
      chosen.map(async (position) => ({
        entry: await seen(gallery, envelope.view, {
          entry: hits[position].entry,
          feature: features.subarray(
            position * dimension,
            (position + 1) * dimension,
          ),
        }),
        similarity: hits[position].similarity,
        rerankDistance: distances[position],
      })),
    ),
    exact,
  };
}

async function firstOfIdentities(
  order: readonly number[],
  hits: QueryHits["hits"],
  how: { readonly k: number; readonly hitsPerIdentity: number },
): Promise<readonly number[]> {
  const groups = await groupByIdentity(
    order,
    (position) => hits[position].entry.identity,
    how,
  );
  const chosen = new Set(groups.flatMap(({ hits: positions }) => positions));
  return order.filter((position) => chosen.has(position));
}

/** An entry with what the view adds to it. */
async function seen(
  gallery: Gallery,
  view: EntryView,
  { entry, feature }: { readonly entry: Entry; readonly feature: Float32Array },
): Promise<Entry> {
  switch (view) {
    case "basic":
    case "full":
      return entry;
    case "feature":
      return { ...entry, feature: feature.slice() };
    case "crop":
      return { ...entry, ...(await keptCropOf(gallery, entry)) };
  }
}

/** Nothing where the entry was deleted or replaced since it was found. */
async function keptCropOf(
  gallery: Gallery,
  { entryId, sequence }: Entry,
): Promise<Pick<Entry, "crop">> {
  try {
    const now = await gallery.getEntry(entryId, "crop");
    return now.sequence === sequence && now.crop !== undefined
      ? { crop: now.crop }
      : {};
  } catch (error) {
    if (error instanceof EntryNotFoundError) return {};
    throw error;
  }
}

function queriesOf(
  { dimension, signal }: RankingRequest,
  queries: readonly ReadyQuery[],
) {
  const features = new Float32Array(queries.length * dimension);
  queries.forEach(({ feature }, i) => features.set(feature, i * dimension));
  return {
    queries: features,
    queryFilters: queries.map(({ filter }) => filter),
    signal,
  };
}
