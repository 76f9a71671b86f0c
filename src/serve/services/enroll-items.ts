import { ReidError } from "#core/errors";
import type {
  Enrollment as IndexEnrollment,
  GalleryDescription,
} from "#index/gallery-types";
import { keptCrop, pixelsField, type RequestCrop } from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import { featureFromWire } from "../features.js";
import {
  attributesFrom,
  microseconds,
  milliseconds,
  optionalId,
} from "../fields.js";
import { ENTRY_TTL_MS } from "../gallery-requests.js";
import type { Enrollment__Output } from "../generated/reid/v1/Enrollment.js";
import type { EmbedOptions } from "../inference.js";
import { itemField } from "../requests.js";
import type { ServiceContext } from "./context.js";
import { embedAmong } from "./embed-items.js";
import { galleryCrop } from "./search-queries.js";

/** An enrolment that was parsed: with its feature, or with the crop that one is made of. */
export type ParsedEnrollment = {
  readonly entry: Omit<IndexEnrollment, "feature">;
} & (
  | { readonly feature: Float32Array; readonly crop?: undefined }
  | { readonly crop: RequestCrop; readonly feature?: undefined }
);

/** What `parseEnrollment` reads: an `Enrollment`, or another request with the same fields. */
export type EnrollmentMessage = Pick<
  Enrollment__Output,
  "crop" | "feature" | "entry" | "ttl"
>;

/**
 * Parses one enrolment.
 *
 * @param of.field  path of the item in the request; empty: the request is the item
 * @throws {FieldInvalidError} @throws {ModelIncompatibleError} @throws as `featureFromWire`
 */
export function parseEnrollment(
  context: ServiceContext,
  item: EnrollmentMessage,
  of: { readonly field: string; readonly gallery: GalleryDescription },
): ParsedEnrollment {
  const { gallery, field } = of;
  const prefix = field === "" ? "" : `${field}.`;
  if (item.crop !== null && item.crop !== undefined) {
    const crop = galleryCrop(item.crop, `${prefix}crop`, gallery);
    return { crop, entry: entryFrom(context, item, { prefix, crop }) };
  }
  if (item.feature === null || item.feature === undefined)
    throw new FieldInvalidError(
      field === "" ? "input" : field,
      "",
      "a crop or a feature",
    );
  const feature = featureFromWire(item.feature, {
    gallery: gallery.name,
    model: gallery.model,
    dimension: gallery.dimension,
    defaultModel: context.registry.defaultModel,
  });
  return { feature, entry: entryFrom(context, item, { prefix }) };
}

function entryFrom(
  { clock, config }: ServiceContext,
  { entry, ttl }: EnrollmentMessage,
  {
    prefix,
    crop,
  }: { readonly prefix: string; readonly crop?: RequestCrop | undefined },
): Omit<IndexEnrollment, "feature"> {
  const path = `${prefix}entry`;
  const text = (
    value: string | undefined,
    name: string,
    otherwise = "",
  ): string =>
    value === undefined || value === ""
      ? otherwise
      : optionalId(value, `${path}.${name}`);
  const ttlMs = milliseconds(ttl, `${prefix}ttl`, ENTRY_TTL_MS);
  const expiresAtUs =
    ttlMs === undefined
      ? microseconds(entry?.expiresAt ?? null, `${path}.expires_at`)
      : (clock.now() + ttlMs) * 1000;
  // A crop is taken at its arrival at the latest; of a feature nobody knows.
  const arrivedAtUs = crop === undefined ? undefined : clock.now() * 1000;
  const capturedAtUs =
    microseconds(entry?.capturedAt ?? null, `${path}.captured_at`) ??
    crop?.capturedAtUs ??
    arrivedAtUs;
  const entryId = text(entry?.entryId, "entry_id");
  return {
    ...(entryId === "" ? {} : { entryId }),
    identity: text(entry?.identity, "identity"),
    cameraId: text(entry?.cameraId, "camera_id", crop?.cameraId),
    trackId: text(entry?.trackId, "track_id", crop?.trackId),
    ...(capturedAtUs === undefined ? {} : { capturedAtUs }),
    attributes: attributesFrom(
      entry?.attributes ?? {},
      `${path}.attributes`,
      config.limits.attributes,
    ),
    ...(expiresAtUs === undefined ? {} : { expiresAtUs }),
  };
}

/** Gives every parsed enrolment its feature: the one it brought, or its crop's by the gallery's model. */
export async function embedEnrollments(
  context: ServiceContext,
  parsed: readonly (ParsedEnrollment | ReidError)[],
  gallery: GalleryDescription,
  options: Omit<EmbedOptions, "model">,
): Promise<readonly (IndexEnrollment | ReidError)[]> {
  const crops = parsed.flatMap((item) =>
    item instanceof ReidError || item.crop === undefined ? [] : [item.crop],
  );
  const others = parsed.filter(
    (item) => !(item instanceof ReidError) && item.crop === undefined,
  ).length;
  const [outcomes, hashes] = await Promise.all([
    embedAmong(context, crops, others, { ...options, model: gallery.model }),
    Promise.all(crops.map(({ input }) => context.cropHashes.of(input))),
  ]);
  const ready: (IndexEnrollment | ReidError)[] = [];
  let next = 0;
  for (const item of parsed)
    if (item instanceof ReidError) ready.push(item);
    else if (item.crop === undefined)
      ready.push({ ...item.entry, feature: item.feature });
    else {
      const [feature, cropHash] = [outcomes[next], hashes[next]];
      next++;
      ready.push(
        feature instanceof ReidError
          ? feature
          : await withCrop(item, { feature, cropHash }, gallery),
      );
    }
  return ready;
}

async function withCrop(
  item: ParsedEnrollment & { readonly crop: RequestCrop },
  made: {
    readonly feature: Float32Array;
    readonly cropHash: Uint8Array | undefined;
  },
  { cropRetention }: GalleryDescription,
): Promise<IndexEnrollment> {
  const { feature, cropHash } = made;
  return {
    ...item.entry,
    feature,
    ...(cropHash === undefined ? {} : { cropHash }),
    ...(cropRetention === "keep"
      ? { crop: await keptCrop(item.crop.input) }
      : {}),
  };
}

/**
 * The path that the failure of an enrolment is about.
 *
 * @param stage  `embedding`: before it could be written; `writing`: of the gallery
 */
export function enrollmentField(
  error: ReidError,
  of: {
    readonly parsed: ParsedEnrollment | ReidError;
    readonly field: string;
    readonly stage: "embedding" | "writing";
  },
): string {
  const { parsed, field, stage } = of;
  return stage === "writing" ||
    parsed instanceof ReidError ||
    parsed.crop === undefined
    ? itemField(error, field)
    : pixelsField(parsed.crop, error);
}
