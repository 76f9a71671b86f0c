import { ReidError } from "#core/errors";
import type { Filter } from "#index/filter";
import { hasConditions } from "#index/filter-walk";
import type { Gallery } from "#index/gallery";
import type { GalleryDescription, QueryHits } from "#index/gallery-types";
import { indexKinds } from "#index/index-kinds";
import { ModelMismatchError } from "#index/errors";
import {
  attemptAsync,
  cropFromWire,
  pixelsField,
  type RequestCrop,
} from "../crop-requests.js";
import { entryToWire, isLargeView, viewFrom } from "../entries.js";
import {
  FieldInvalidError,
  ModelIncompatibleError,
  UnsupportedError,
} from "../errors.js";
import { featureFromWire, featureToWire } from "../features.js";
import {
  numberIn,
  optionalId,
  requireId,
  sequenceFrom,
  wholeIn,
  wordFrom,
} from "../fields.js";
import { FilterBudget, filterFrom } from "../filters.js";
import { EXTERNAL_MODEL } from "../gallery-requests.js";
import type { Query__Output } from "../generated/reid/v1/Query.js";
import type { SearchRequest__Output } from "../generated/reid/v1/SearchRequest.js";
import type { SearchResponse } from "../generated/reid/v1/SearchResponse.js";
import type { SearchResult } from "../generated/reid/v1/SearchResult.js";
import type { SearchServiceHandlers } from "../generated/reid/v1/SearchService.js";
import {
  itemField,
  modelFrom,
  priorityFrom,
  requireBatch,
  requireFewValuesIn,
} from "../requests.js";
import { failureFrom } from "../status.js";
import { rejectUnary, unary, type Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { embedItems, finite } from "./embed-items.js";
import { openGallery } from "./open-gallery.js";

/** One query, parsed: its feature or the crop that one is made of, and its own filter. */
interface ParsedQuery {
  readonly feature: Float32Array | undefined;
  readonly crop: RequestCrop | undefined;
  readonly filter: Filter | undefined;
}

/** A query that can be searched with. */
interface ReadyQuery {
  readonly feature: Float32Array;
  readonly filter: Filter | undefined;
}

/** The envelope of a search, parsed. */
type Envelope = ReturnType<typeof envelopeFrom>;

/** Handlers of SearchService. */
export function searchService(context: ServiceContext): SearchServiceHandlers {
  return {
    Search: unary(context, "SearchService/Search", (request, call) =>
      search(context, request, call),
    ),
    Identify: rejectUnary(context, "SearchService/Identify"),
  };
}

async function search(
  context: ServiceContext,
  request: SearchRequest__Output,
  call: Call,
): Promise<SearchResponse> {
  const budget = new FilterBudget(context.config.limits.filterValues);
  const envelope = envelopeFrom(context, request, budget);
  const gallery = await openGallery(context, request.gallery);
  const description = gallery.describe();
  checkPin(context, request, description);
  checkEffort(envelope, description);
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
  });
  const queries = ready.flatMap((one) =>
    one instanceof ReidError ? [] : [one],
  );
  const { dimension, model } = description;
  const features = new Float32Array(queries.length * dimension);
  queries.forEach(({ feature }, i) => features.set(feature, i * dimension));
  const started = context.clock.monotonic();
  const outcome = await gallery.search({
    ...searchOptions(envelope),
    queries: features,
    queryFilters: queries.map(({ filter }) => filter),
    signal: call.signal,
  });
  const isFiltered = [envelope.search, ...queries].some(({ filter }) =>
    hasConditions(filter),
  );
  const isFallback =
    envelope.search.mode === "index" &&
    !indexKinds[description.index.kind].exact &&
    outcome.results.some(({ exact }) => exact);
  context.telemetry.record(
    "reid.search.duration",
    (context.clock.monotonic() - started) / 1000,
    {
      gallery: gallery.name,
      mode: isFallback ? "fallback" : envelope.search.mode,
      filtered: String(isFiltered),
    },
  );
  let next = 0;
  const results = ready.map((one, i): SearchResult => {
    const { queryId } = request.queries[i];
    if (!(one instanceof ReidError)) {
      const found = outcome.results[next++];
      return resultFrom(found, { queryId, one, description, envelope });
    }
    const item = parsed[i];
    const field =
      item instanceof ReidError || item.crop === undefined
        ? itemField(one, `queries[${i}]`)
        : pixelsField(item.crop, one);
    return { queryId, error: failureFrom(one, context.log, field) };
  });
  return {
    results,
    model: { name: model.name, version: model.version },
    sequence: String(outcome.sequence),
  };
}

function envelopeFrom(
  context: ServiceContext,
  request: SearchRequest__Output,
  budget: FilterBudget,
) {
  const { limits } = context.config;
  requireBatch(request.queries, "queries", limits.queries);
  requireFewValuesIn(request.queries, "queries");
  const k = wholeIn(request.k, "k", { minimum: 1, maximum: limits.hits });
  const view = viewFrom(request.view);
  const most = isLargeView(view) ? limits.largeHits : limits.hits;
  const mostEach = Math.floor(most / request.queries.length);
  if (k > mostEach)
    throw new FieldInvalidError(
      "k",
      k,
      `at most ${mostEach}: ${most} hits for all ${request.queries.length} queries` +
        (isLargeView(view) ? " where features or crops are returned" : ""),
      { minimum: 1, maximum: mostEach },
    );
  if (request.group !== null)
    throw new UnsupportedError("group", "group the hits by identity yourself");
  if (request.rerank !== null)
    throw new UnsupportedError("rerank", "use reid eval --rerank");
  const mode = wordFrom(request.mode, "mode", "SEARCH_MODE", {
    UNSPECIFIED: "index",
    INDEX: "index",
    EXACT: "exact",
  } as const);
  const effort = wholeIn(
    request.effort,
    "effort",
    { minimum: 1, maximum: 10_000 },
    0,
  );
  if (effort !== 0 && mode === "exact")
    throw new FieldInvalidError("effort", effort, "none with mode EXACT");
  const minSequence = sequenceFrom(request.minSequence);
  const filter = filterFrom(request.filter, "filter", budget);
  const freshness = wordFrom(request.freshness, "freshness", "FRESHNESS", {
    UNSPECIFIED: "acknowledged",
    ACKNOWLEDGED: "acknowledged",
    INDEXED: "indexed",
  } as const);
  return {
    view,
    effort,
    priority: priorityFrom(request.priority),
    search: {
      k,
      mode,
      view,
      freshness,
      filter,
      ...(request.minSimilarity === undefined
        ? {}
        : {
            minSimilarity: numberIn(request.minSimilarity, "min_similarity", {
              minimum: -1,
              maximum: 1,
            }),
          }),
      ...(effort === 0 ? {} : { effort }),
      ...(minSequence === 0 ? {} : { minSequence }),
    },
  };
}

function searchOptions({ search: { filter, ...rest } }: Envelope) {
  return filter === undefined ? rest : { ...rest, filter };
}

function checkPin(
  context: ServiceContext,
  request: SearchRequest__Output,
  gallery: GalleryDescription,
): void {
  const pin = modelFrom(request.model);
  if (pin === undefined) return;
  const { model } = gallery;
  const name = pin.name === "" ? context.registry.defaultModel : pin.name;
  const version = pin.version === 0 ? model.version : pin.version;
  if (name !== model.name || version !== model.version)
    throw new ModelMismatchError(
      gallery.name,
      `${model.name}/${model.version}`,
      `${name}/${version}`,
    );
}

function checkEffort(envelope: Envelope, gallery: GalleryDescription): void {
  if (envelope.effort !== 0 && indexKinds[gallery.index.kind].exact)
    throw new FieldInvalidError(
      "effort",
      envelope.effort,
      `none: gallery "${gallery.name}" has a ${gallery.index.kind} index`,
    );
}

async function parseQuery(
  context: ServiceContext,
  from: {
    readonly query: Query__Output;
    readonly path: string;
    readonly gallery: Gallery;
    readonly description: GalleryDescription;
    readonly budget: FilterBudget;
  },
): Promise<ParsedQuery> {
  const { query, path, gallery, description, budget } = from;
  optionalId(query.queryId, `${path}.query_id`);
  const filter = filterFrom(query.filter, `${path}.filter`, budget);
  if (query.crop !== null && query.crop !== undefined) {
    if (description.model.name === EXTERNAL_MODEL)
      throw new ModelIncompatibleError(
        EXTERNAL_MODEL,
        "a feature for every query",
        "no features of crops",
      );
    const crop = cropFromWire(query.crop, `${path}.crop`);
    return { crop, feature: undefined, filter };
  }
  if (query.feature !== null && query.feature !== undefined) {
    const feature = featureFromWire(query.feature, {
      gallery: description.name,
      model: description.model,
      dimension: description.dimension,
      defaultModel: context.registry.defaultModel,
    });
    return { crop: undefined, feature, filter };
  }
  if (query.entryId === undefined || query.entryId === "")
    throw new FieldInvalidError(path, "", "a crop, a feature or an entry id");
  const entryId = requireId(query.entryId, `${path}.entry_id`);
  const { feature } = await gallery.getEntry(entryId, "feature");
  return {
    crop: undefined,
    feature,
    filter: { ...filter, entryNotIn: [...(filter?.entryNotIn ?? []), entryId] },
  };
}

/** Gives every query its feature: the one it brought, its entry's, or its crop's by the gallery's model. */
async function embedQueries(
  context: ServiceContext,
  parsed: readonly (ParsedQuery | ReidError)[],
  gallery: GalleryDescription,
  options: {
    readonly priority: "interactive" | "bulk";
    readonly signal: AbortSignal;
    readonly remainingMs: number | undefined;
  },
): Promise<readonly (ReadyQuery | ReidError)[]> {
  const crops = parsed.flatMap((item) =>
    item instanceof ReidError || item.crop === undefined ? [] : [item.crop],
  );
  const { outcomes } =
    crops.length === 0
      ? { outcomes: [] }
      : await embedItems(context, crops, {
          ...options,
          model: gallery.model,
          origin: "search",
        });
  let next = 0;
  return parsed.map((item): ReadyQuery | ReidError => {
    if (item instanceof ReidError) return item;
    const feature = item.feature ?? outcomes[next++];
    return feature instanceof ReidError
      ? feature
      : { feature, filter: item.filter };
  });
}

function resultFrom(
  found: QueryHits,
  of: {
    readonly queryId: string;
    readonly one: ReadyQuery;
    readonly description: GalleryDescription;
    readonly envelope: Envelope;
  },
): SearchResult {
  const { model } = of.description;
  return {
    queryId: of.queryId,
    hits: found.hits.map(({ entry, similarity }) => ({
      entry: entryToWire(entry, model),
      similarity,
    })),
    exact: found.exact,
    feature:
      of.envelope.view === "feature"
        ? featureToWire(of.one.feature, model, "f32le")
        : null,
  };
}
