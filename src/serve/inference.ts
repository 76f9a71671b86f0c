import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import { ReidError } from "#core/errors";
import {
  checkEncoded,
  checkRaw,
  cropFromRaw,
  decodeCrop,
  type CropLimits,
  type DecodedCrop,
  type RawPixels,
} from "#core/image";
import type { Telemetry } from "#core/telemetry";
import {
  abortError,
  Batcher,
  priorities,
  type Place,
  type Priority,
} from "./batcher.js";
import { DecodeGate } from "./decode-gate.js";
import { CancelledError, DeadlineError } from "./inference-errors.js";
import type { InferencePool } from "./inference-pool.js";
import type { LoadedModel, ModelReference, ModelRegistry } from "./registry.js";

/** A crop as it came: a file, or raw pixels. Only read, until the call has been answered. */
export type CropInput =
  { readonly encoded: Uint8Array } | { readonly raw: RawPixels };

/** Which kind of call a crop came with; an attribute of the metrics. */
export type CropOrigin =
  | "embed"
  | "stream"
  | "enroll"
  | "search"
  | "identify"
  | "memory"
  | "migration";

/** How crops are embedded. */
export interface EmbedOptions {
  /** Default: the active version of the default model. */
  readonly model?: ModelReference | undefined;
  /** Default interactive. */
  readonly priority?: Priority | undefined;
  /** Its reason tells cancellation from a deadline; see `abortError`. */
  readonly signal?: AbortSignal | undefined;
  /** What is left of the caller's time, ms; work that cannot be done in it is refused at once. */
  readonly remainingMs?: number | undefined;
  /** Default embed. */
  readonly origin?: CropOrigin | undefined;
  /** A place for each crop that {@link Inference.place} gave; default: taken at once or refused. */
  readonly places?: readonly Place[] | undefined;
}

/** What became of one crop: its feature, float32 [D] of unit norm, owned by the caller; or why there is none. */
export type CropOutcome = Float32Array | ReidError;

/** The answer to one call. */
export interface Embedded {
  /** In the order of the crops. */
  readonly outcomes: readonly CropOutcome[];
  /** The one version that embedded all of them. */
  readonly model: LoadedModel;
}

/** What inference needs. */
export interface InferenceOptions {
  readonly registry: ModelRegistry;
  readonly pool: InferencePool;
  readonly config: Pick<Config, "inference" | "limits">;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
}

/**
 * From crops to features: decoded off the main thread, batched across callers, run by the workers.
 *
 * A crop that fails leaves the others unharmed, and a feature does not depend on what else is in its batch.
 */
export class Inference {
  readonly #options: InferenceOptions;
  readonly #batcher: Batcher<Uint8Array, Float32Array>;
  readonly #gate: DecodeGate;
  readonly #limits: CropLimits;
  readonly #stopObserving: readonly (() => void)[];

  constructor(options: InferenceOptions) {
    const { config, pool, telemetry, clock } = options;
    this.#options = options;
    this.#gate = new DecodeGate(config.limits.decodingPixels);
    this.#limits = cropLimits(config.limits);
    this.#batcher = new Batcher({
      maxBatch: config.inference.maxBatch,
      windowMs: config.inference.windowMs,
      queueLimits: {
        interactive: config.limits.queueInteractive,
        bulk: config.limits.queueBulk,
      },
      slots: pool.size,
      clock,
      run: (key, crops) => this.#run(key, crops),
      onDequeue: (priority, waitedMs) =>
        telemetry.record("reid.queue.duration", waitedMs / 1000, { priority }),
    });
    this.#stopObserving = this.#observe();
  }

  /**
   * Embeds crops with one version of one model.
   *
   * @throws {ModelNotFoundError} @throws {NoActiveModelError} @throws {ModelNotLoadedError}
   * @throws {OverloadedError} the queue has no place for all of them, or not in the time that is left
   * @throws {CancelledError} @throws {DeadlineError} the signal aborted
   */
  async embed(
    crops: readonly CropInput[],
    options: EmbedOptions = {},
  ): Promise<Embedded> {
    const { priority = "interactive", signal, origin = "embed" } = options;
    const model = this.#resolve(options);
    const places = this.#reserve(priority, crops.length, options);
    const outcomes = await Promise.all(
      crops.map((crop, i) => this.#embedOne(crop, model, places[i], signal)),
    );
    for (const outcome of outcomes) this.#count(origin, outcome);
    if (signal?.aborted === true)
      throw outcomes.find(isAbort) ?? abortError(signal, "encoder");
    return { outcomes, model };
  }

  /**
   * A place in the queue, waited for in turn where it is full; given back by `embed` or by `leave`.
   *
   * @returns  a promise only where there was something to wait for
   */
  place(priority: Priority, signal: AbortSignal): Place | Promise<Place> {
    return this.#batcher.place(priority, signal);
  }

  /** Crops accepted and not yet in the encoder. */
  depth(priority: Priority): number {
    return this.#batcher.depth(priority);
  }

  /** Fails what is queued, waits for what is in the encoder; idempotent. Pool and registry are their owner's. */
  async close(): Promise<void> {
    for (const stop of this.#stopObserving) stop();
    await this.#batcher.close();
  }

  #resolve({ model, places = [] }: EmbedOptions): LoadedModel {
    try {
      return this.#options.registry.resolve(model);
    } catch (error) {
      for (const place of places) place.leave();
      throw error;
    }
  }

  #reserve(
    priority: Priority,
    count: number,
    { places, remainingMs, origin = "embed" }: EmbedOptions,
  ): readonly Place[] {
    if (places !== undefined) return places;
    try {
      return this.#batcher.reserve(priority, count, remainingMs);
    } catch (error) {
      if (error instanceof ReidError) this.#count(origin, error, count);
      throw error;
    }
  }

  async #embedOne(
    crop: CropInput,
    model: LoadedModel,
    place: Place,
    signal: AbortSignal | undefined,
  ): Promise<CropOutcome> {
    const { clock, telemetry } = this.#options;
    const started = clock.monotonic();
    try {
      const pixels = await this.#decode(crop, model, signal);
      const feature = await this.#batcher.submit({
        job: pixels.data,
        lane: model.key,
        place,
        signal,
      });
      telemetry.record(
        "reid.embed.duration",
        (clock.monotonic() - started) / 1000,
        { priority: place.priority },
      );
      return feature;
    } catch (error) {
      if (error instanceof ReidError) return error;
      throw error;
    } finally {
      place.leave();
    }
  }

  async #decode(
    crop: CropInput,
    model: LoadedModel,
    signal: AbortSignal | undefined,
  ): Promise<DecodedCrop> {
    const { clock, telemetry } = this.#options;
    const started = clock.monotonic();
    const limits = this.#limits;
    const { heightPx, widthPx } = model;
    const options = { limits, resize: { heightPx, widthPx } };
    // The limits are checked before the crop waits for its turn: a refusal needs none.
    const header =
      "raw" in crop ? crop.raw : checkEncoded(crop.encoded, limits);
    if ("raw" in crop) checkRaw(crop.raw, limits);
    const pixels = header.widthPx * header.heightPx;
    const decoded = await this.#gate.pass(pixels, signal, () =>
      "raw" in crop
        ? cropFromRaw(crop.raw, options)
        : decodeCrop(crop.encoded, options),
    );
    telemetry.record(
      "reid.crop.decode.duration",
      (clock.monotonic() - started) / 1000,
      { format: decoded.format },
    );
    return decoded;
  }

  async #run(
    key: string,
    crops: readonly Uint8Array[],
  ): Promise<readonly Float32Array[]> {
    const { pool, telemetry } = this.#options;
    const [model] = key.split("/");
    const { features, encoderMs } = await pool.run(key, crops);
    telemetry.record("reid.batch.size", crops.length, { model });
    telemetry.record("reid.encoder.duration", encoderMs / 1000, {
      model,
      device: pool.devices()[0] ?? "cpu",
    });
    const dimension = features.length / crops.length;
    return crops.map((_, i) =>
      features.slice(i * dimension, (i + 1) * dimension),
    );
  }

  #count(origin: CropOrigin, outcome: CropOutcome, crops = 1): void {
    const code = outcome instanceof ReidError ? outcome.code : "ok";
    this.#options.telemetry.add("reid.crops", crops, { origin, outcome: code });
  }

  #observe(): readonly (() => void)[] {
    const { telemetry, pool } = this.#options;
    const byPriority = (value: (priority: Priority) => number) => () =>
      priorities.map((priority) => ({
        value: value(priority),
        attributes: { priority },
      }));
    return [
      telemetry.observe(
        "reid.queue.depth",
        byPriority((one) => this.#batcher.depth(one)),
      ),
      telemetry.observe(
        "reid.queue.limit",
        byPriority((one) => this.#batcher.limit(one)),
      ),
      telemetry.observe("reid.workers", () =>
        (["idle", "busy", "dead"] as const).map((state) => ({
          // A worker that is starting is as good as dead to whoever waits for it.
          value: pool
            .states()
            .filter((one) => (one === "starting" ? "dead" : one) === state)
            .length,
          attributes: { state },
        })),
      ),
      telemetry.observe("reid.model.version", () =>
        this.#options.registry.names().flatMap((model) => {
          const active = this.#options.registry.activeVersion(model);
          return active === undefined
            ? []
            : [{ value: active.version, attributes: { model } }];
        }),
      ),
    ];
  }
}

/** Whether a crop was left for the caller's sake; its stage is where it was at the time. */
function isAbort(outcome: CropOutcome): boolean {
  return outcome instanceof DeadlineError || outcome instanceof CancelledError;
}

/** What a crop may cost, by the configuration's limits. */
export function cropLimits(limits: Config["limits"]): CropLimits {
  return {
    encodedBytes: limits.encodedCropBytes,
    pixels: limits.cropPixels,
    minSidePx: 8,
    maxSidePx: 4096,
  };
}
