import { ReidError } from "#core/errors";
import {
  attempt,
  cropFromWire,
  pixelsField,
  type RequestCrop,
} from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import {
  featureToWire,
  MAX_VALUES_FEATURES,
  type FeatureEncoding,
} from "../features.js";
import { timestamp } from "../fields.js";
import type { EmbedRequest__Output } from "../generated/reid/v1/EmbedRequest.js";
import type { EmbedResponse } from "../generated/reid/v1/EmbedResponse.js";
import type { EmbedResult } from "../generated/reid/v1/EmbedResult.js";
import type { EmbedServiceHandlers } from "../generated/reid/v1/EmbedService.js";
import type { TrackFeature } from "../generated/reid/v1/TrackFeature.js";
import type { CropInput, EmbedOptions } from "../inference.js";
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
  const isObserved = observeFrom(request.observe);
  const priority = priorityFrom(request.priority);
  const pin = modelFrom(request.model);
  const items = request.crops.map((crop, i) =>
    attempt(() => cropFromWire(crop, `crops[${i}]`)),
  );
  const { outcomes, model } = await embedItems(context, items, {
    model: pin,
    priority,
    signal: call.signal,
    remainingMs: finite(call.remainingMs()),
    origin: "embed",
  });
  observe(context, items, outcomes, { model, isObserved });
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

/** What embedding parsed and unparsed items gave, in their order. */
export interface EmbeddedItems {
  readonly outcomes: readonly (Float32Array | ReidError)[];
  readonly model: LoadedModel;
}

/**
 * Embeds the items that could be parsed; the others keep the failure of their parsing.
 *
 * @throws {ReidError} as Inference.embed
 */
export async function embedItems(
  context: ServiceContext,
  items: readonly (RequestCrop | ReidError)[],
  options: EmbedOptions,
): Promise<EmbeddedItems> {
  const inputs: CropInput[] = [];
  for (const item of items)
    if (item instanceof ReidError) countRefused(context, item, options);
    else inputs.push(item.input);
  const { outcomes, model } = await context.inference.embed(inputs, options);
  let next = 0;
  return {
    outcomes: items.map((item) =>
      item instanceof ReidError ? item : outcomes[next++],
    ),
    model,
  };
}

function countRefused(
  { telemetry }: ServiceContext,
  { code }: ReidError,
  { origin = "embed" }: EmbedOptions,
): void {
  telemetry.add("reid.crops", 1, { origin, outcome: code });
}

/** Lets online mode learn from what was embedded with an active version; never waits. */
export function observe(
  context: ServiceContext,
  items: readonly (RequestCrop | ReidError)[],
  outcomes: readonly (Float32Array | ReidError)[],
  how: {
    readonly model: LoadedModel;
    readonly isObserved: boolean | undefined;
  },
): void {
  const { online, config, clock } = context;
  if (online === undefined || !(how.isObserved ?? config.memory.observe))
    return;
  const seen = items.flatMap((item, i) => {
    const feature = outcomes[i];
    if (item instanceof ReidError || feature instanceof ReidError) return [];
    const { cropId, cameraId, trackId, capturedAtUs } = item;
    const capturedAtMs =
      capturedAtUs === undefined
        ? clock.now()
        : Math.floor(capturedAtUs / 1000);
    return [{ feature, cropId, cameraId, trackId, capturedAtMs }];
  });
  online.observe(how.model, seen);
}

/** The path a failure speaks of: the pixels' where the item could be parsed. */
export function fieldOf(
  item: RequestCrop | ReidError,
  error: ReidError,
  otherwise: string,
): string {
  return item instanceof ReidError ? otherwise : pixelsField(item, error);
}

/** A deadline for the queue; none where the call has none. */
export function finite(ms: number): number | undefined {
  return Number.isFinite(ms) ? ms : undefined;
}

/** Refuses `values` for more features than a message may hold of it. @throws {FieldInvalidError} */
export function requireFewValues(
  encoding: FeatureEncoding,
  features: number,
): void {
  if (encoding === "values" && features > MAX_VALUES_FEATURES)
    throw new FieldInvalidError(
      "encoding",
      `VALUES for ${features} features`,
      `F32LE or F16LE for more than ${MAX_VALUES_FEATURES}`,
    );
}

/** A track's mean as the wire has it. */
export function trackToWire(
  track: TrackMean,
  encoding: FeatureEncoding,
): TrackFeature {
  return {
    cameraId: track.cameraId,
    trackId: track.trackId,
    feature: featureToWire(track.feature, track.model, encoding),
    cropCount: track.cropCount,
    agreement: track.agreement,
    captured: { start: timestamp(track.startUs), end: timestamp(track.endUs) },
  };
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
