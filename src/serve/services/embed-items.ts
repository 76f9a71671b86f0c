import { ReidError } from "#core/errors";
import { pixelsField, type RequestCrop } from "../crop-requests.js";
import { featureToWire, type FeatureEncoding } from "../features.js";
import { timestamp } from "../fields.js";
import type { TrackFeature } from "../generated/reid/v1/TrackFeature.js";
import type { CropInput, EmbedOptions } from "../inference.js";
import type { LoadedModel } from "../registry.js";
import type { TrackMean } from "../tracks.js";
import type { ServiceContext } from "./context.js";

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

/**
 * Embeds the crops of a batch. Where the encoder takes none of them, the others of the batch are done all the same,
 * and each crop has the failure for itself; without others the call has it.
 *
 * @param others  items of the batch that need no encoder
 * @throws {ReidError} as `embedItems`: there are no others, or the call was aborted
 */
export async function embedAmong(
  context: ServiceContext,
  crops: readonly RequestCrop[],
  others: number,
  options: EmbedOptions,
): Promise<readonly (Float32Array | ReidError)[]> {
  if (crops.length === 0) return [];
  try {
    return (await embedItems(context, crops, options)).outcomes;
  } catch (error) {
    const isCalls = others === 0 || options.signal?.aborted === true;
    if (isCalls || !(error instanceof ReidError)) throw error;
    return crops.map(() => error);
  }
}

function countRefused(
  { telemetry }: ServiceContext,
  { code }: ReidError,
  { origin = "embed" }: EmbedOptions,
): void {
  telemetry.add("reid.crops", 1, { origin, outcome: code });
}

/** Hashes of the crops that could be parsed, for `observe`; none where online mode does not learn from them. */
export function hashesFor(
  context: ServiceContext,
  items: readonly (RequestCrop | ReidError)[],
  isObserved: boolean | undefined,
): Promise<CropHashList> {
  return isLearntFrom(context, isObserved)
    ? Promise.all(
        items.map((item) =>
          item instanceof ReidError
            ? undefined
            : context.cropHashes.of(item.input),
        ),
      )
    : Promise.resolve([]);
}

/** Of the crops of a call, in their order; undefined: there is none. */
export type CropHashList = readonly (Uint8Array | undefined)[];

function isLearntFrom(
  { online, config }: ServiceContext,
  isObserved: boolean | undefined,
): boolean {
  return online !== undefined && (isObserved ?? config.memory.observe);
}

/** Lets online mode learn from what was embedded with an active version; never waits. */
export function observe(
  context: ServiceContext,
  items: readonly (RequestCrop | ReidError)[],
  outcomes: readonly (Float32Array | ReidError)[],
  how: {
    readonly model: LoadedModel;
    readonly isObserved: boolean | undefined;
    readonly hashes: CropHashList;
  },
): void {
  const { online, clock } = context;
  if (online === undefined || !isLearntFrom(context, how.isObserved)) return;
  const seen = items.flatMap((item, i) => {
    const feature = outcomes[i];
    if (item instanceof ReidError || feature instanceof ReidError) return [];
    const { cropId, cameraId, trackId, capturedAtUs } = item;
    const capturedAtMs =
      capturedAtUs === undefined
        ? clock.now()
        : Math.floor(capturedAtUs / 1000);
    const hash = how.hashes[i];
    const cropHash =
      hash === undefined ? undefined : Buffer.from(hash).toString("hex");
    return [{ feature, cropId, cameraId, trackId, capturedAtMs, cropHash }];
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
