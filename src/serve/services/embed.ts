import { ReidError } from "#core/errors";
import { attempt, cropFromWire, type RequestCrop } from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import {
  featureToWire,
  MAX_VALUES_FEATURES,
  type FeatureEncoding,
} from "../features.js";
import type { EmbedRequest__Output } from "../generated/reid/v1/EmbedRequest.js";
import type { EmbedResponse } from "../generated/reid/v1/EmbedResponse.js";
import type { EmbedResult } from "../generated/reid/v1/EmbedResult.js";
import type { EmbedServiceHandlers } from "../generated/reid/v1/EmbedService.js";
import type { LoadedModel } from "../registry.js";
import {
  encodingFrom,
  modelFrom,
  observeFrom,
  poolingFrom,
  priorityFrom,
  requireBatch,
} from "../requests.js";
import { failureFrom } from "../status.js";
import { trackKey, TrackPool, type TrackMean } from "../tracks.js";
import { unary, type Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import {
  embedItems,
  fieldOf,
  finite,
  hashesFor,
  observe,
  trackToWire,
} from "./embed-items.js";
import { streamEmbed } from "./stream-embed.js";

/** Handlers of EmbedService. */
export function embedService(context: ServiceContext): EmbedServiceHandlers {
  return {
    Embed: unary(context, "EmbedService/Embed", (request, call) =>
      embed(context, request, call),
    ),
    StreamEmbed: streamEmbed(context),
  };
}

async function embed(
  context: ServiceContext,
  request: EmbedRequest__Output,
  call: Call,
): Promise<EmbedResponse> {
  requireBatch(request.crops, "crops", context.config.limits.crops);
  const encoding = encodingFrom(request.encoding);
  const isPooled = poolingFrom(request.pooling);
  const tracks = new Set(
    request.crops
      .filter(({ trackId }) => isPooled && trackId !== "")
      .map(({ cameraId, trackId }) => trackKey(cameraId, trackId)),
  );
  requireFewValues(encoding, request.crops.length + tracks.size);
  const isObserved = observeFrom(request.observe, call.principal.role);
  const priority = priorityFrom(request.priority);
  const pin = modelFrom(request.model);
  const items = request.crops.map((crop, i) =>
    attempt(() => cropFromWire(crop, `crops[${i}]`)),
  );
  const [{ outcomes, model }, hashes] = await Promise.all([
    embedItems(context, items, {
      model: pin,
      priority,
      signal: call.signal,
      remainingMs: finite(call.remainingMs()),
      origin: "embed",
    }),
    hashesFor(context, items, isObserved),
  ]);
  observe(context, items, outcomes, { model, isObserved, hashes });
  const results = outcomes.map((outcome, i): EmbedResult => {
    const item = items[i];
    const cropId = item instanceof ReidError ? "" : item.cropId;
    return outcome instanceof ReidError
      ? {
          cropId: request.crops[i].cropId,
          error: failureFrom(
            outcome,
            context.log,
            fieldOf(item, outcome, `crops[${i}]`),
          ),
        }
      : { cropId, feature: featureToWire(outcome, model, encoding) };
  });
  const means = isPooled ? poolTracks(context, items, outcomes, model) : [];
  return {
    results,
    tracks: means.map((track) => trackToWire(track, encoding)),
    model: { name: model.name, version: model.version },
  };
}

/** Refuses `values` for more features than a message may hold of it. @throws {FieldInvalidError} */
function requireFewValues(encoding: FeatureEncoding, features: number): void {
  if (encoding === "values" && features > MAX_VALUES_FEATURES)
    throw new FieldInvalidError(
      "encoding",
      `VALUES for ${features} features`,
      `F32LE or F16LE for more than ${MAX_VALUES_FEATURES}`,
    );
}

/** The mean of each track of one call, by its first crop. */
function poolTracks(
  context: ServiceContext,
  items: readonly (RequestCrop | ReidError)[],
  outcomes: readonly (Float32Array | ReidError)[],
  model: LoadedModel,
): readonly TrackMean[] {
  const pools = new Map<string, TrackPool>();
  items.forEach((item, i) => {
    if (item instanceof ReidError || item.trackId === "") return;
    const key = trackKey(item.cameraId, item.trackId);
    const pool = pools.get(key) ?? new TrackPool(item, model, model.dimension);
    pools.set(key, pool);
    const feature = outcomes[i];
    const capturedAtUs = item.capturedAtUs ?? context.clock.now() * 1000;
    if (!(feature instanceof ReidError)) pool.add(feature, capturedAtUs);
  });
  return [...pools.values()].flatMap((pool) => pool.mean() ?? []);
}
