import { ReidError } from "#core/errors";
import { hasConditions } from "#index/filter-walk";
import type { Gallery } from "#index/galleries";
import type { GalleryDescription } from "#index/gallery-types";
import { indexKinds } from "#index/index-kinds";
import { attemptAsync, pixelsField } from "../crop-requests.js";
import { FilterBudget } from "../filters.js";
import type { SearchRequest__Output } from "../generated/reid/v1/SearchRequest.js";
import type { SearchResponse } from "../generated/reid/v1/SearchResponse.js";
import type { SearchServiceHandlers } from "../generated/reid/v1/SearchService.js";
import { itemField } from "../requests.js";
import { failureFrom } from "../status.js";
import { unary, type Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { finite } from "./embed-items.js";
import { Identifier } from "./identify.js";
import { openGallery } from "./open-gallery.js";
import {
  checkEffort,
  checkPin,
  checkSequence,
  envelopeFrom,
  type SearchEnvelope,
} from "./search-envelope.js";
import {
  embedQueries,
  parseQuery,
  type ParsedQuery,
  type ReadyQuery,
} from "./search-queries.js";
import { rank, type RankedHits, type Ranking } from "./search-ranking.js";
import { searchResponse, type Answer } from "./search-response.js";

/** Handlers of SearchService. */
export function searchService(context: ServiceContext): SearchServiceHandlers {
  const identifier = new Identifier(context);
  return {
    Search: unary<"SearchService/Search", SearchResponse>(
      context,
      "SearchService/Search",
      (request, call) => search(context, request, call),
    ),
    Identify: unary(context, "SearchService/Identify", (request, call) =>
      identifier.identify(request, call),
    ),
  };
}

async function search(
  context: ServiceContext,
  request: SearchRequest__Output,
  call: Call,
): Promise<Buffer> {
  const budget = new FilterBudget(context.config.limits.filterValues);
  const envelope = envelopeFrom(context, request, budget);
  const gallery = await openGallery(context, request.gallery);
  const description = gallery.describe();
  checkPin(context, envelope.pin, description);
  checkEffort(envelope.effort, description);
  await checkSequence(gallery, envelope.search.minSequence);
  const parsed = await Promise.all(
    request.queries.map((query, i) =>
      attemptAsync(() =>
        parseQuery(context, {
          query,
          path: `queries[${i}]`,
          gallery,
          description,
          budget,
        }),
      ),
    ),
  );
  const ready = await embedQueries(context, parsed, description, {
    priority: envelope.priority,
    signal: call.signal,
    remainingMs: finite(call.remainingMs()),
    origin: "search",
  });
  const queries = ready.flatMap((one) =>
    one instanceof ReidError ? [] : [one],
  );
  const { dimension, model } = description;
  const started = context.clock.monotonic();
  const outcome = await rank(context, {
    gallery,
    envelope,
    queries,
    dimension,
    signal: call.signal,
  });
  sampleRecall(context, { gallery, envelope, queries, outcome });
  record(context, {
    description,
    envelope,
    queries,
    results: outcome.results,
    durationMs: context.clock.monotonic() - started,
  });
  let next = 0;
  const answers = ready.map((one, i): Answer => {
    const { queryId } = request.queries[i];
    return one instanceof ReidError
      ? { queryId, error: failureOf(context, one, { item: parsed[i], i }) }
      : { queryId, found: outcome.results[next++], feature: one.feature };
  });
  return searchResponse(answers, {
    model,
    envelope,
    sequence: outcome.sequence,
  });
}

function failureOf(
  context: ServiceContext,
  error: ReidError,
  of: { readonly item: ParsedQuery | ReidError; readonly i: number },
) {
  const field =
    of.item instanceof ReidError || of.item.crop === undefined
      ? itemField(error, `queries[${of.i}]`)
      : pixelsField(of.item.crop, error);
  return failureFrom(error, context.log, field);
}

/** Has the first of the queries that the index answered measured. */
function sampleRecall(
  { recall }: ServiceContext,
  of: {
    readonly gallery: Gallery;
    readonly envelope: SearchEnvelope;
    readonly queries: readonly ReadyQuery[];
    readonly outcome: Ranking;
  },
): void {
  const { gallery, envelope, queries, outcome } = of;
  const at = outcome.results.findIndex(({ exact }) => !exact);
  if (at < 0) return;
  const { filter, effort } = envelope.search;
  const { feature, filter: own } = queries[at];
  recall?.offer(gallery, { feature, filters: [filter, own], effort });
}

function record(
  context: ServiceContext,
  of: {
    readonly description: GalleryDescription;
    readonly envelope: SearchEnvelope;
    readonly queries: readonly ReadyQuery[];
    readonly results: readonly RankedHits[];
    readonly durationMs: number;
  },
): void {
  const { description, envelope, queries, results } = of;
  const { mode } = envelope.search;
  const isFiltered = [envelope.search, ...queries].some(({ filter }) =>
    hasConditions(filter),
  );
  const isFallback =
    mode === "index" &&
    !indexKinds[description.index.kind].exact &&
    results.some(({ exact }) => exact);
  context.telemetry.record("reid.search.duration", of.durationMs / 1000, {
    gallery: description.name,
    mode: isFallback ? "fallback" : mode,
    filtered: String(isFiltered),
  });
}
