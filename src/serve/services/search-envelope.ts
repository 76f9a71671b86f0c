import { ModelMismatchError } from "#index/errors";
import type { Gallery } from "#index/galleries";
import type { GalleryDescription, GroupOptions } from "#index/gallery-types";
import { indexKinds } from "#index/index-kinds";
import { isLargeView, viewFrom } from "../entries.js";
import { FieldInvalidError } from "../errors.js";
import { numberIn, sequenceFrom, wholeIn, wordFrom } from "../fields.js";
import { filterFrom, type FilterBudget } from "../filters.js";
import { EXTERNAL_MODEL } from "../gallery-requests.js";
import type { KReciprocal__Output } from "../generated/reid/v1/KReciprocal.js";
import type { SearchRequest__Output } from "../generated/reid/v1/SearchRequest.js";
import {
  modelFrom,
  priorityFrom,
  requireBatch,
  requireFewValuesIn,
} from "../requests.js";
import type { ModelReference, ModelRegistry } from "../registry.js";
import type { RerankSettings } from "../reranking.js";
import type { ServiceContext } from "./context.js";

/** Entries that can be re-ranked for one query. */
const MAX_CANDIDATES = 1000;
const DEFAULT_CANDIDATES = 100;
const K1 = { minimum: 1, maximum: 100 };
const HITS_PER_IDENTITY = { minimum: 1, maximum: 100 };

/** How a search re-ranks what it finds. */
export interface Reranking extends RerankSettings {
  /** Nearest entries that are re-ranked, k to 1000. */
  readonly candidates: number;
}

/** The envelope of a search, parsed. */
export type SearchEnvelope = ReturnType<typeof envelopeFrom>;

/**
 * Parses all of a search but its queries.
 *
 * @throws {FieldInvalidError} @throws {BatchTooLargeError}
 */
export function envelopeFrom(
  context: ServiceContext,
  request: SearchRequest__Output,
  budget: FilterBudget,
) {
  const { limits } = context.config;
  requireBatch(request.queries, "queries", limits.queries);
  requireFewValuesIn(request.queries, "queries");
  const k = wholeIn(request.k, "k", { minimum: 1, maximum: limits.hits });
  const view = viewFrom(request.view);
  const group = groupFrom(request);
  requireFewHits(context, { request, k, group, isLarge: isLargeView(view) });
  const rerank =
    request.rerank === null ? undefined : rerankFrom(request.rerank, k);
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
  const minSimilarity = similarityFrom(request.minSimilarity);
  return {
    k,
    view,
    effort,
    group,
    rerank,
    priority: priorityFrom(request.priority),
    pin: modelFrom(request.model),
    search: {
      mode,
      freshness,
      ...(filter === undefined ? {} : { filter }),
      ...(minSimilarity === undefined ? {} : { minSimilarity }),
      ...(effort === 0 ? {} : { effort }),
      ...(minSequence === 0 ? {} : { minSequence }),
    },
  } as const;
}

/** `min_similarity`; undefined where there is none. @throws {FieldInvalidError} */
export function similarityFrom(value: number | undefined): number | undefined {
  return value === undefined
    ? undefined
    : numberIn(value, "min_similarity", { minimum: -1, maximum: 1 });
}

/**
 * A pin's version 0 is the active one, as everywhere: it need not be the gallery's.
 *
 * @throws {ModelMismatchError} the pinned version is not the gallery's
 */
export function checkPin(
  { registry }: Pick<ServiceContext, "registry">,
  pin: ModelReference | undefined,
  gallery: GalleryDescription,
): void {
  if (pin === undefined) return;
  const name = pin.name === "" ? registry.defaultModel : pin.name;
  const version =
    pin.version === 0 ? impliedVersion(registry, name, gallery) : pin.version;
  if (name !== gallery.model.name || version !== gallery.model.version)
    throw new ModelMismatchError(
      gallery.name,
      `${gallery.model.name}/${gallery.model.version}`,
      `${name}/${version}`,
    );
}

/** The version of a pin that names none; 0: no version of that model is active. */
function impliedVersion(
  registry: ModelRegistry,
  name: string | undefined,
  { model }: GalleryDescription,
): number {
  // Features made elsewhere have no active version: theirs is the caller's own count.
  return name === EXTERNAL_MODEL
    ? model.version
    : (registry.activeVersion(name)?.version ?? 0);
}

/**
 * Fails at once where a write is asked for that there has not been: no item is looked at, no crop is embedded.
 *
 * @throws {SequenceAheadError}
 */
export async function checkSequence(
  gallery: Gallery,
  minSequence: number | undefined = 0,
): Promise<void> {
  if (minSequence > 0)
    await gallery.search({ queries: new Float32Array(), k: 1, minSequence });
}

/** @throws {FieldInvalidError} an effort where the index has none */
export function checkEffort(effort: number, gallery: GalleryDescription): void {
  if (effort !== 0 && indexKinds[gallery.index.kind].exact)
    throw new FieldInvalidError(
      "effort",
      effort,
      `none: gallery "${gallery.name}" has a ${gallery.index.kind} index`,
    );
}

function groupFrom({ group }: SearchRequest__Output): GroupOptions | undefined {
  if (group === null) return undefined;
  const hitsPerIdentity = wholeIn(
    group.hitsPerIdentity,
    "group.hits_per_identity",
    HITS_PER_IDENTITY,
    1,
  );
  return { hitsPerIdentity };
}

function requireFewHits(
  context: ServiceContext,
  asked: {
    readonly request: SearchRequest__Output;
    readonly k: number;
    readonly group: GroupOptions | undefined;
    readonly isLarge: boolean;
  },
): void {
  const { limits } = context.config;
  const { request, k, isLarge } = asked;
  const { hitsPerIdentity = 1 } = asked.group ?? {};
  const most = isLarge ? limits.largeHits : limits.hits;
  const queries = request.queries.length;
  const mostEach = Math.floor(most / (queries * hitsPerIdentity));
  if (k <= mostEach) return;
  throw new FieldInvalidError(
    "k",
    k,
    `at most ${mostEach}: ${most} hits for all ${queries} queries` +
      (hitsPerIdentity === 1 ? "" : ` with ${hitsPerIdentity} an identity`) +
      (isLarge ? " where features or crops are returned" : ""),
    { minimum: 1, maximum: mostEach },
  );
}

function rerankFrom(rerank: KReciprocal__Output, k: number): Reranking {
  if (k > MAX_CANDIDATES)
    throw new FieldInvalidError(
      "k",
      k,
      `at most ${MAX_CANDIDATES} with rerank`,
      { minimum: 1, maximum: MAX_CANDIDATES },
    );
  const k1 = wholeIn(rerank.k1, "rerank.k1", K1, 20);
  const k2Range = { minimum: 1, maximum: k1 };
  return {
    k1,
    k2: wholeIn(rerank.k2, "rerank.k2", k2Range, Math.min(6, k1)),
    distanceShare:
      rerank.distanceShare === undefined
        ? 0.3
        : numberIn(rerank.distanceShare, "rerank.distance_share", {
            minimum: 0,
            maximum: 1,
          }),
    candidates: wholeIn(
      rerank.candidates,
      "rerank.candidates",
      { minimum: k, maximum: MAX_CANDIDATES },
      Math.max(DEFAULT_CANDIDATES, k),
    ),
  };
}
