import { ReidError } from "#core/errors";
import type { Filter } from "#index/filter";
import type { Gallery } from "#index/galleries";
import type { GalleryDescription } from "#index/gallery-types";
import { cropFromWire, type RequestCrop } from "../crop-requests.js";
import { FieldInvalidError, ModelIncompatibleError } from "../errors.js";
import { featureFromWire } from "../features.js";
import { optionalId, requireId } from "../fields.js";
import { filterFrom, type FilterBudget } from "../filters.js";
import { EXTERNAL_MODEL } from "../gallery-requests.js";
import type { Crop__Output } from "../generated/reid/v1/Crop.js";
import type { Query__Output } from "../generated/reid/v1/Query.js";
import type { CropOrigin } from "../inference.js";
import type { ServiceContext } from "./context.js";
import { embedAmong } from "./embed-items.js";

/** One query, parsed: its feature or the crop that one is made of, and its own filter. */
export interface ParsedQuery {
  readonly feature: Float32Array | undefined;
  readonly crop: RequestCrop | undefined;
  readonly filter: Filter | undefined;
}

/** A query that can be searched with. */
export interface ReadyQuery {
  readonly feature: Float32Array;
  readonly filter: Filter | undefined;
}

/**
 * Parses one query of a search; the feature of an entry is read from its gallery.
 *
 * @throws {FieldInvalidError} @throws {ModelIncompatibleError} @throws {EntryNotFoundError}
 * @throws as `featureFromWire`
 */
export async function parseQuery(
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
  if (query.crop !== null && query.crop !== undefined)
    return {
      crop: galleryCrop(query.crop, `${path}.crop`, description),
      feature: undefined,
      filter,
    };
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

/**
 * A crop to be embedded with a gallery's model.
 *
 * @throws {FieldInvalidError} @throws {ModelIncompatibleError} the gallery's features are made elsewhere
 */
export function galleryCrop(
  crop: Crop__Output,
  field: string,
  gallery: GalleryDescription,
): RequestCrop {
  if (gallery.model.name === EXTERNAL_MODEL)
    throw new ModelIncompatibleError(
      EXTERNAL_MODEL,
      "a feature for every crop",
      "no features of crops",
    );
  return cropFromWire(crop, field);
}

/** Gives every query its feature: the one it brought, its entry's, or its crop's by the gallery's model. */
export async function embedQueries(
  context: ServiceContext,
  parsed: readonly (ParsedQuery | ReidError)[],
  gallery: GalleryDescription,
  options: {
    readonly priority: "interactive" | "bulk";
    readonly signal: AbortSignal;
    readonly remainingMs: number | undefined;
    readonly origin: CropOrigin;
  },
): Promise<readonly (ReadyQuery | ReidError)[]> {
  const crops = parsed.flatMap((item) =>
    item instanceof ReidError || item.crop === undefined ? [] : [item.crop],
  );
  const others = parsed.filter(
    (item) => !(item instanceof ReidError) && item.crop === undefined,
  ).length;
  const outcomes = await embedAmong(context, crops, others, {
    ...options,
    model: gallery.model,
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
