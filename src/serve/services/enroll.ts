import { ReidError } from "#core/errors";
import type {
  Enrollment as IndexEnrollment,
  EnrollOutcome,
  GalleryDescription,
} from "#index/gallery-types";
import type { KeepResponse } from "#index/request-log";
import {
  attempt,
  cropFromWire,
  keptCrop,
  pixelsField,
  type RequestCrop,
} from "../crop-requests.js";
import { FieldInvalidError, ModelIncompatibleError } from "../errors.js";
import { featureFromWire } from "../features.js";
import {
  attributesFrom,
  microseconds,
  milliseconds,
  optionalId,
  requireName,
} from "../fields.js";
import {
  ENTRY_TTL_MS,
  EXTERNAL_MODEL,
  onExistingFrom,
} from "../gallery-requests.js";
import type { Enrollment__Output } from "../generated/reid/v1/Enrollment.js";
import type { EnrollRequest__Output } from "../generated/reid/v1/EnrollRequest.js";
import type { EnrollResponse } from "../generated/reid/v1/EnrollResponse.js";
import type { EnrollResult } from "../generated/reid/v1/EnrollResult.js";
import {
  itemField,
  priorityFrom,
  requireBatch,
  requireFewValuesIn,
} from "../requests.js";
import { failureFrom } from "../status.js";
import type { Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { embedItems, finite } from "./embed-items.js";
import { identified, openGallery } from "./open-gallery.js";

/** An enrolment that was parsed: with its feature, or with the crop that one is made of. */
interface Parsed {
  readonly field: string;
  readonly entry: Omit<IndexEnrollment, "feature">;
  readonly feature: Float32Array | undefined;
  readonly crop: RequestCrop | undefined;
}

/** Adds or replaces entries, one transaction; each item has its own outcome. */
export async function enroll(
  context: ServiceContext,
  request: EnrollRequest__Output,
  call: Call,
): Promise<EnrollResponse> {
  const { Enroll } = serviceDefinition("GalleryService");
  const { limits } = context.config;
  requireBatch(request.enrollments, "enrollments", limits.enrollments);
  requireFewValuesIn(request.enrollments, "enrollments");
  const onExisting = onExistingFrom(request.onExisting);
  const priority = priorityFrom(request.priority);
  const name = requireName(request.gallery, "gallery");
  const id = identified(request, Enroll);
  const bytes = await context.galleries.requests.once(
    id,
    async (keep: KeepResponse) => {
      const gallery = await openGallery(context, name);
      const description = gallery.describe();
      const parsed = request.enrollments.map((item, i) =>
        attempt(() =>
          parseEnrollment(context, item, `enrollments[${i}]`, description),
        ),
      );
      const ready = await embedCrops(context, parsed, description, {
        priority,
        signal: call.signal,
        remainingMs: finite(call.remainingMs()),
      });
      const accepted = ready.flatMap((item) =>
        item instanceof ReidError ? [] : [item],
      );
      const respond = (outcome: EnrollOutcome) =>
        Enroll.responseSerialize(
          responseFrom(context, { parsed, ready, outcome, description }),
        );
      call.signal.throwIfAborted();
      const outcome = await gallery.enroll(accepted, {
        onExisting,
        inTransaction: (writer, made) => keep(writer, respond(made)),
      });
      const written = outcome.results.filter((one) => one.error === undefined);
      context.telemetry.add("reid.gallery.writes", written.length, {
        gallery: gallery.name,
        write: "enroll",
      });
      return respond(outcome);
    },
  );
  return Enroll.responseDeserialize(Buffer.from(bytes));
}

function parseEnrollment(
  context: ServiceContext,
  item: Enrollment__Output,
  field: string,
  gallery: GalleryDescription,
): Parsed {
  const { clock, config } = context;
  const crop =
    item.crop === null || item.crop === undefined
      ? undefined
      : cropFromWire(item.crop, `${field}.crop`);
  const given = item.feature ?? null;
  if (crop === undefined && given === null)
    throw new FieldInvalidError(field, "", "a crop or a feature");
  if (crop !== undefined && gallery.model.name === EXTERNAL_MODEL)
    throw new ModelIncompatibleError(
      EXTERNAL_MODEL,
      "a feature for every entry",
      "no features of crops",
    );
  const { entry } = item;
  const path = `${field}.entry`;
  const text = (
    value: string | undefined,
    name: string,
    otherwise = "",
  ): string => {
    const own = optionalId(value ?? "", `${path}.${name}`);
    return own === "" ? otherwise : own;
  };
  const ttlMs = milliseconds(item.ttl, `${field}.ttl`, ENTRY_TTL_MS);
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
    field,
    crop,
    feature:
      given === null
        ? undefined
        : featureFromWire(given, {
            gallery: gallery.name,
            model: gallery.model,
            dimension: gallery.dimension,
            defaultModel: context.registry.defaultModel,
          }),
    entry: {
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
    },
  };
}

/** Gives every parsed enrolment its feature: the one it brought, or its crop's by the gallery's model. */
async function embedCrops(
  context: ServiceContext,
  parsed: readonly (Parsed | ReidError)[],
  gallery: GalleryDescription,
  options: {
    readonly priority: "interactive" | "bulk";
    readonly signal: AbortSignal;
    readonly remainingMs: number | undefined;
  },
): Promise<readonly (IndexEnrollment | ReidError)[]> {
  const crops = parsed.flatMap((item) =>
    item instanceof ReidError || item.crop === undefined ? [] : [item.crop],
  );
  const { outcomes } =
    crops.length === 0
      ? { outcomes: [] }
      : await embedItems(context, crops, {
          ...options,
          model: gallery.model,
          origin: "enroll",
        });
  let next = 0;
  return Promise.all(
    parsed.map(async (item): Promise<IndexEnrollment | ReidError> => {
      if (item instanceof ReidError) return item;
      if (item.crop === undefined)
        return item.feature === undefined
          ? new FieldInvalidError(item.field, "", "a crop or a feature")
          : { ...item.entry, feature: item.feature };
      const feature = outcomes[next++];
      if (feature instanceof ReidError) return feature;
      return gallery.cropRetention === "keep"
        ? { ...item.entry, feature, crop: await keptCrop(item.crop.input) }
        : { ...item.entry, feature };
    }),
  );
}

function responseFrom(
  context: ServiceContext,
  made: {
    readonly parsed: readonly (Parsed | ReidError)[];
    readonly ready: readonly (IndexEnrollment | ReidError)[];
    readonly outcome: EnrollOutcome;
    readonly description: GalleryDescription;
  },
): EnrollResponse {
  let next = 0;
  const results = made.ready.map((item, i): EnrollResult => {
    const parsed = made.parsed[i];
    const field = `enrollments[${i}]`;
    const result =
      item instanceof ReidError ? undefined : made.outcome.results[next++];
    const error = item instanceof ReidError ? item : result?.error;
    if (error !== undefined) {
      const isPixels =
        !(parsed instanceof ReidError) &&
        parsed.crop !== undefined &&
        item instanceof ReidError;
      const path = isPixels
        ? pixelsField(parsed.crop, error)
        : itemField(error, field);
      return { error: failureFrom(error, context.log, path) };
    }
    return {
      entryId: result?.entryId ?? "",
      sequence: String(result?.sequence ?? 0),
    };
  });
  const { name, version } = made.description.model;
  return {
    results,
    sequence: String(made.outcome.sequence),
    model: { name, version },
  };
}
