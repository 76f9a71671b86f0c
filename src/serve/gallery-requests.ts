import type {
  CropRetention,
  GalleryChanges,
  GalleryDescription,
  GallerySpec,
  GalleryState,
  ModelPolicy,
  OnExisting,
} from "#index/gallery-types";
import type { Config } from "#core/config";
import {
  FieldInvalidError,
  ModelIncompatibleError,
  UnsupportedError,
} from "./errors.js";
import {
  countFrom,
  duration,
  milliseconds,
  requireName,
  tagsFrom,
  timestamp,
  wholeIn,
  wordFrom,
} from "./fields.js";
import type { Gallery, Gallery__Output } from "./generated/reid/v1/Gallery.js";
import { indexFrom, indexToWire, requireSegments } from "./index-spec.js";
import type { ModelRegistry, ModelVersion } from "./registry.js";
import { modelFrom } from "./requests.js";

/** The reserved model name of galleries whose features are made elsewhere. */
export const EXTERNAL_MODEL = "external";

const TEN_YEARS_MS = 10 * 366 * 86_400_000;

/** Of one entry: any time to come. */
export const ENTRY_TTL_MS = { minimum: 1, maximum: TEN_YEARS_MS };

/** Of a gallery's entries by default: 1 min to 10 years. */
const DEFAULT_TTL_MS = { minimum: 60_000, maximum: TEN_YEARS_MS };

const MAX_TAGS = 16;

/**
 * Parses a gallery that is to be made, its model looked up.
 *
 * @throws {FieldInvalidError} @throws {UnsupportedError} @throws {ModelNotFoundError}
 * @throws {NoActiveModelError} @throws {ModelIncompatibleError}
 */
export function gallerySpecFrom(
  gallery: Gallery__Output,
  registry: ModelRegistry,
  config: Config,
): GallerySpec {
  const name = requireName(gallery.name, "gallery.name");
  const dimension = wholeIn(
    gallery.dimension,
    "gallery.dimension",
    { minimum: 1, maximum: config.limits.dimension },
    0,
  );
  const modelPolicy = modelPolicyFrom(gallery);
  const defaultTtlMs = defaultTtlFrom(gallery);
  const index = indexFrom(gallery.index);
  const model = galleryModel(gallery, dimension, registry);
  requireSegments(index, model.dimension);
  return {
    name,
    modelPolicy,
    index,
    cropRetention: cropRetentionFrom(gallery, config),
    ...(defaultTtlMs === undefined ? {} : { defaultTtlMs }),
    maxEntries: maxEntriesFrom(gallery, config),
    tags: tagsFrom(gallery.tags, "gallery.tags", MAX_TAGS),
    ...model,
  };
}

/** The fields of an update mask, and what each changes; api.md section 6. */
const updatable: Readonly<
  Record<string, (gallery: Gallery__Output, config: Config) => GalleryChanges>
> = {
  model_policy: (gallery) => ({ modelPolicy: modelPolicyFrom(gallery) }),
  index: (gallery) => ({ index: indexFrom(gallery.index) }),
  crop_retention: (gallery, config) => ({
    cropRetention: cropRetentionFrom(gallery, config),
  }),
  default_ttl: (gallery) => ({
    defaultTtlMs: defaultTtlFrom(gallery) ?? null,
  }),
  max_entries: (gallery, config) => ({
    maxEntries: maxEntriesFrom(gallery, config),
  }),
  tags: (gallery) => ({
    tags: tagsFrom(gallery.tags, "gallery.tags", MAX_TAGS),
  }),
};

/**
 * Parses what is to be changed of a gallery: the fields that the mask names.
 *
 * @throws {FieldInvalidError} a bad value, an empty mask, or a field that cannot be changed
 * @throws {UnsupportedError}
 */
export function galleryChangesFrom(
  gallery: Gallery__Output,
  mask: readonly string[],
  config: Config,
): GalleryChanges {
  if (mask.length === 0)
    throw new FieldInvalidError(
      "update_mask",
      "",
      `some of ${Object.keys(updatable).join(", ")}`,
    );
  let changes: GalleryChanges = {};
  for (const path of mask) {
    if (!Object.hasOwn(updatable, path))
      throw new FieldInvalidError(
        "update_mask",
        path,
        `some of ${Object.keys(updatable).join(", ")}`,
      );
    changes = { ...changes, ...updatable[path](gallery, config) };
  }
  return changes;
}

function modelPolicyFrom(gallery: Gallery__Output): ModelPolicy {
  const policy = wordFrom<ModelPolicy>(
    gallery.modelPolicy,
    "gallery.model_policy",
    "MODEL_POLICY",
    {
      UNSPECIFIED: "pinned",
      PINNED: "pinned",
      FOLLOW_ACTIVE: "follow-active",
    },
  );
  if (policy === "follow-active")
    throw new UnsupportedError(
      "model_policy FOLLOW_ACTIVE",
      "use PINNED, and make a new gallery for a new version",
    );
  return policy;
}

function cropRetentionFrom(
  gallery: Gallery__Output,
  config: Config,
): CropRetention {
  return wordFrom<CropRetention>(
    gallery.cropRetention,
    "gallery.crop_retention",
    "CROP_RETENTION",
    {
      UNSPECIFIED: config.gallery.cropRetention,
      NONE: "none",
      KEEP: "keep",
    },
  );
}

function defaultTtlFrom(gallery: Gallery__Output): number | undefined {
  return milliseconds(
    gallery.defaultTtl,
    "gallery.default_ttl",
    DEFAULT_TTL_MS,
  );
}

function maxEntriesFrom(gallery: Gallery__Output, config: Config): number {
  const maxEntries = countFrom(gallery.maxEntries, "gallery.max_entries");
  return maxEntries === 0 ? config.index.maxEntries : maxEntries;
}

/** What an entry whose id is taken does. @throws {FieldInvalidError} */
export function onExistingFrom(
  value: string | number,
  field = "on_existing",
): OnExisting {
  return wordFrom<OnExisting>(value, field, "ON_EXISTING", {
    UNSPECIFIED: "replace",
    REPLACE: "replace",
    KEEP: "keep",
    FAIL: "fail",
  });
}

/** A gallery as the wire has it. @param operationId  of the work under way on it */
export function galleryToWire(
  gallery: GalleryDescription,
  operationId = "",
): Gallery {
  const { name, version } = gallery.model;
  return {
    name: gallery.name,
    model: { name, version },
    modelPolicy:
      gallery.modelPolicy === "pinned"
        ? "MODEL_POLICY_PINNED"
        : "MODEL_POLICY_FOLLOW_ACTIVE",
    dimension: gallery.dimension,
    index: indexToWire(gallery.index),
    cropRetention:
      gallery.cropRetention === "keep"
        ? "CROP_RETENTION_KEEP"
        : "CROP_RETENTION_NONE",
    defaultTtl: duration(gallery.defaultTtlMs),
    maxEntries: String(gallery.maxEntries),
    tags: gallery.tags,
    state: states[gallery.state],
    entryCount: String(gallery.entryCount),
    identityCount: String(gallery.identityCount),
    sequence: String(gallery.sequence),
    indexedSequence: String(gallery.indexedSequence),
    sizeBytes: String(gallery.indexBytes),
    createdAt: timestamp(gallery.createdAtUs),
    operationId,
  };
}

const states: Readonly<
  Record<
    GalleryState,
    "GALLERY_STATE_READY" | "GALLERY_STATE_LOADING" | "GALLERY_STATE_REBUILDING"
  >
> = {
  ready: "GALLERY_STATE_READY",
  loading: "GALLERY_STATE_LOADING",
  rebuilding: "GALLERY_STATE_REBUILDING",
  // A gallery that is being closed answers nothing; it is seen only while the server ends.
  closed: "GALLERY_STATE_LOADING",
};

function galleryModel(
  gallery: Gallery__Output,
  dimension: number,
  registry: ModelRegistry,
): { readonly model: ModelVersion; readonly dimension: number } {
  const pin = modelFrom(gallery.model, "gallery.model");
  if (pin?.name === EXTERNAL_MODEL) {
    const version = pin.version ?? 0;
    if (version === 0)
      throw new FieldInvalidError("gallery.model.version", 0, "1 or more");
    if (dimension === 0)
      throw new FieldInvalidError(
        "gallery.dimension",
        0,
        "the features' length, for a gallery of features made elsewhere",
      );
    return { model: { name: EXTERNAL_MODEL, version }, dimension };
  }
  const model = registry.resolve(pin);
  if (dimension !== 0 && dimension !== model.dimension)
    throw new ModelIncompatibleError(
      model.key,
      `${dimension} numbers`,
      `features of ${model.dimension} numbers`,
    );
  const { name, version } = model;
  return { model: { name, version }, dimension: model.dimension };
}
