import type { handleBidiStreamingCall } from "@grpc/grpc-js";
import { ReidError } from "#core/errors";
import { CropEmptyError } from "#core/image-errors";
import { attempt, cropFromWire, type RequestCrop } from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import { featureToWire, type FeatureEncoding } from "../features.js";
import { requireId, wholeIn } from "../fields.js";
import type { EndTrack__Output } from "../generated/reid/v1/EndTrack.js";
import type { StreamCrop__Output } from "../generated/reid/v1/StreamCrop.js";
import type { StreamEmbedOpen__Output } from "../generated/reid/v1/StreamEmbedOpen.js";
import type { StreamEmbedRequest__Output } from "../generated/reid/v1/StreamEmbedRequest.js";
import type { StreamEmbedResponse } from "../generated/reid/v1/StreamEmbedResponse.js";
import type { Place, Priority } from "../batcher.js";
import { OverloadedError } from "../inference-errors.js";
import type { LoadedModel, ModelReference } from "../registry.js";
import {
  encodingFrom,
  modelFrom,
  observeFrom,
  poolingFrom,
  priorityFrom,
} from "../requests.js";
import { failureFrom } from "../status.js";
import { trackKey, TrackPool } from "../tracks.js";
import {
  BidiStream,
  bidiStream,
  type OpenStream,
  type StreamWork,
} from "./bidi-stream.js";
import type { ServiceContext } from "./context.js";
import {
  embedItems,
  fieldOf,
  finite,
  hashesFor,
  observe,
  trackToWire,
} from "./embed-items.js";

type Rpc = "EmbedService/StreamEmbed";

const DEFAULT_WINDOW = 64;
/** Crops after which a pool closes. */
const POOL_CROPS = 1024;
/** Silence after which a pool closes, ms. */
const POOL_IDLE_MS = 30_000;

interface Opened {
  readonly pin: ModelReference | undefined;
  readonly encoding: FeatureEncoding;
  readonly isPooled: boolean;
  readonly isObserved: boolean | undefined;
  readonly window: number;
  readonly priority: Priority;
}

interface OpenPool {
  readonly pool: TrackPool;
  /** Crops of the track that are with the encoder. */
  readonly pending: Set<Promise<void>>;
  /** Crops taken in, answered or not. */
  taken: number;
  idle: NodeJS.Timeout | undefined;
}

/** The handler of EmbedService/StreamEmbed. */
export function streamEmbed(
  context: ServiceContext,
): handleBidiStreamingCall<StreamEmbedRequest__Output, StreamEmbedResponse> {
  return bidiStream<Rpc, StreamEmbedResponse>(
    context,
    "EmbedService/StreamEmbed",
    (opened) => new EmbedStream(opened),
  );
}

/** One camera pipeline's connection: crops in, answers out in any order, at most `window` unanswered. */
class EmbedStream implements StreamWork<StreamEmbedRequest__Output> {
  readonly #context: ServiceContext;
  readonly #stream: BidiStream<Rpc, StreamEmbedResponse>;
  readonly #inFlight = new Map<string, Promise<void>>();
  readonly #pools = new Map<string, OpenPool>();
  #opened: Opened | undefined;
  #model: LoadedModel | undefined;

  constructor(opened: OpenStream<Rpc, StreamEmbedResponse>) {
    this.#context = opened.context;
    this.#stream = new BidiStream(opened, this);
  }

  receive(message: StreamEmbedRequest__Output): void {
    const { open, crop, endTrack } = message;
    if (open !== null && open !== undefined) {
      this.#stream.call.permit(message);
      this.#open(open);
    } else if (this.#opened === undefined)
      throw new FieldInvalidError(
        "open",
        "missing",
        "open in the first message",
      );
    else if (crop !== null && crop !== undefined)
      this.#take(crop, this.#opened);
    else if (endTrack !== null && endTrack !== undefined)
      this.#endTrack(endTrack);
    else
      throw new FieldInvalidError(
        "message",
        "empty",
        "open, crop or end_track",
      );
  }

  /** Answers the crops in flight, then closes the pools. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#inFlight.values());
    await Promise.all(
      [...this.#pools.keys()].map((key) => this.#closePool(key)),
    );
  }

  end(): void {
    for (const { idle } of this.#pools.values()) clearTimeout(idle);
    this.#pools.clear();
  }

  #open(open: StreamEmbedOpen__Output): void {
    if (this.#opened !== undefined)
      throw new FieldInvalidError("open", "sent again", "open once");
    const maximum = this.#context.config.limits.windowCrops;
    const range = { minimum: 1, maximum };
    this.#opened = {
      pin: modelFrom(open.model, "open.model"),
      encoding: encodingFrom(open.encoding, "open.encoding"),
      isPooled: poolingFrom(open.pooling),
      isObserved: observeFrom(open.observe, this.#stream.call.principal.role),
      window: wholeIn(
        open.window,
        "open.window",
        range,
        Math.min(DEFAULT_WINDOW, maximum),
      ),
      priority: priorityFrom(open.priority),
    };
    this.#model = this.#context.registry.resolve(this.#opened.pin);
    const { name, version } = this.#model;
    this.#stream.send({
      opened: { window: this.#opened.window, model: { name, version } },
    });
  }

  /** The version that crops from now on are embedded with; a change is told before its first answer. */
  #currentModel(opened: Opened): LoadedModel {
    const model = this.#context.registry.resolve(opened.pin);
    if (model.key !== this.#model?.key) {
      this.#model = model;
      const { name, version } = model;
      this.#stream.send({ modelChanged: { name, version } });
    }
    return model;
  }

  #take(message: StreamCrop__Output, opened: Opened): void {
    const { correlationId, crop } = message;
    if (crop === null) {
      const empty = new CropEmptyError();
      this.#answerFailure(correlationId, "", empty, "crop.crop");
      return;
    }
    if (this.#inFlight.has(correlationId))
      throw new FieldInvalidError(
        "crop.correlation_id",
        correlationId,
        "a number that no crop in flight has",
      );
    if (this.#inFlight.size >= opened.window) {
      const counts = { depth: this.#inFlight.size, limit: opened.window };
      const overloaded = new OverloadedError("window", counts, 100);
      this.#answerFailure(correlationId, crop.cropId, overloaded, "crop.crop");
      return;
    }
    const item = attempt(() => cropFromWire(crop, "crop.crop"));
    const model = this.#currentModel(opened);
    const pool = this.#poolFor(item, model, opened);
    const work = this.#embedOne(message, {
      item,
      model,
      opened,
      pool: pool?.pool,
    });
    this.#inFlight.set(correlationId, work);
    pool?.pending.add(work);
    void work
      .catch((error: unknown) => this.#stream.fail(error))
      .finally(() => {
        this.#inFlight.delete(correlationId);
        pool?.pending.delete(work);
      });
  }

  async #embedOne(
    message: StreamCrop__Output,
    how: {
      readonly item: RequestCrop | ReidError;
      readonly model: LoadedModel;
      readonly opened: Opened;
      readonly pool: TrackPool | undefined;
    },
  ): Promise<void> {
    const { item, model, opened, pool } = how;
    const { correlationId } = message;
    const cropId = message.crop?.cropId ?? "";
    let outcome: Float32Array | ReidError;
    const hashes = hashesFor(this.#context, [item], opened.isObserved);
    // Waited for below, where the crop comes to something.
    hashes.catch(() => undefined);
    try {
      const places =
        item instanceof ReidError ? [] : [await this.#place(opened.priority)];
      const embedded = await embedItems(this.#context, [item], {
        places,
        model,
        priority: opened.priority,
        signal: this.#stream.call.signal,
        remainingMs: finite(this.#stream.call.remainingMs()),
        origin: "stream",
      });
      outcome = embedded.outcomes[0];
    } catch (error) {
      if (!(error instanceof ReidError) || this.#stream.call.signal.aborted)
        throw error;
      outcome = error;
    }
    observe(this.#context, [item], [outcome], {
      model,
      isObserved: opened.isObserved,
      hashes: await hashes,
    });
    if (outcome instanceof ReidError) {
      const field = fieldOf(item, outcome, "crop.crop");
      this.#answerFailure(correlationId, cropId, outcome, field);
      return;
    }
    if (!(item instanceof ReidError))
      pool?.add(outcome, item.capturedAtUs ?? this.#context.clock.now() * 1000);
    const feature = featureToWire(outcome, model, opened.encoding);
    this.#stream.send({
      result: { correlationId, result: { cropId, feature } },
    });
  }

  /** Reads no further while the queue is full: the client's own buffers fill, and it can drop its oldest crop. */
  async #place(priority: Priority): Promise<Place> {
    const place = this.#context.inference.place(
      priority,
      this.#stream.call.signal,
    );
    if (!(place instanceof Promise)) return place;
    this.#stream.hold();
    try {
      return await place;
    } finally {
      this.#stream.release();
    }
  }

  #answerFailure(
    correlationId: string,
    cropId: string,
    error: ReidError,
    field: string,
  ): void {
    const failure = failureFrom(error, this.#context.log, field);
    this.#stream.send({
      result: { correlationId, result: { cropId, error: failure } },
    });
  }

  /** The pool a crop belongs to; it stays on the version of its first crop, so a swap closes it. */
  #poolFor(
    item: RequestCrop | ReidError,
    model: LoadedModel,
    opened: Opened,
  ): OpenPool | undefined {
    if (!opened.isPooled || item instanceof ReidError || item.trackId === "")
      return undefined;
    const key = trackKey(item.cameraId, item.trackId);
    const before = this.#pools.get(key);
    if (
      before !== undefined &&
      (before.pool.model.version !== model.version ||
        before.taken >= POOL_CROPS)
    )
      void this.#closePool(key);
    const pool = this.#pools.get(key) ?? {
      pool: new TrackPool(item, model, model.dimension),
      pending: new Set<Promise<void>>(),
      taken: 0,
      idle: undefined,
    };
    pool.taken++;
    clearTimeout(pool.idle);
    pool.idle = setTimeout(() => void this.#closePool(key), POOL_IDLE_MS);
    this.#pools.set(key, pool);
    return pool;
  }

  #endTrack(message: EndTrack__Output): void {
    const trackId = requireId(message.trackId, "end_track.track_id");
    void this.#closePool(trackKey(message.cameraId, trackId));
  }

  /** Waits for the track's crops that are under way, then sends its mean. */
  async #closePool(key: string): Promise<void> {
    const open = this.#pools.get(key);
    if (open === undefined) return;
    this.#pools.delete(key);
    clearTimeout(open.idle);
    await Promise.allSettled(open.pending);
    const track = open.pool.mean();
    if (track === undefined || this.#opened === undefined) return;
    this.#stream.send({ track: trackToWire(track, this.#opened.encoding) });
  }
}
