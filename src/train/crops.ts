import { Worker } from "node:worker_threads";
import { ClosedError, errorFromData } from "#core/errors";
import type {
  CropFailure,
  CropReply,
  CropRequest,
  FillMessage,
  ViewKey,
} from "./crops-messages.js";
import type { CropRef } from "./data/data-set.js";

/** How crops are loaded. */
export interface CropLoaderOptions {
  readonly heightPx: number;
  readonly widthPx: number;
  /** Threads that decode and augment, at least 1. */
  readonly workers: number;
  /** Most bytes of resized crops kept, over all sets; what does not fit is decoded at each use. */
  readonly cacheBytes: number;
}

/** A list of crops known to a loader. */
export interface CropSet {
  readonly id: number;
  /** Number of crops. */
  readonly count: number;
  /** Bytes of the cache it holds. */
  readonly cacheBytes: number;
}

/** Crops checked at a time by one worker. */
const CHECK_CHUNK = 64;

/** Freed buffers kept for each length. */
const SPARE_BUFFERS = 4;

/**
 * Decodes, resizes, augments and normalizes crops in worker threads, a batch a job.
 *
 * What comes out depends on crop, seed, epoch, iteration and place in the batch alone, not on the number of
 * workers or on what is cached. Batches may be asked for ahead: they are made while the engine runs.
 */
export class CropLoader {
  readonly #options: CropLoaderOptions;
  readonly #workers: readonly Worker[];
  readonly #waiting = new Map<number, Waiting>();
  readonly #load: number[];
  readonly #spare = new Map<number, ArrayBuffer[]>();
  #cacheLeft: number;
  #nextSet = 0;
  #nextJob = 0;
  #isClosed = false;

  constructor(options: CropLoaderOptions) {
    this.#options = options;
    this.#cacheLeft = options.cacheBytes;
    this.#load = new Array<number>(options.workers).fill(0);
    this.#workers = this.#load.map(() => this.#startWorker());
  }

  /** Makes a list of crops known to the workers and takes its share of the cache. */
  add(crops: readonly CropRef[]): CropSet {
    this.#expectOpen();
    const { heightPx, widthPx } = this.#options;
    const cropBytes = heightPx * widthPx * 3;
    const slots = Math.min(
      crops.length,
      Math.floor(this.#cacheLeft / cropBytes),
    );
    const cacheBytes = slots * cropBytes;
    this.#cacheLeft -= cacheBytes;
    const set = this.#nextSet++;
    const message: CropRequest = {
      kind: "register",
      set,
      paths: crops.map(({ path }) => path),
      heightPx,
      widthPx,
      cache: new SharedArrayBuffer(cacheBytes),
      filled: new SharedArrayBuffer(slots),
    };
    for (const worker of this.#workers) worker.postMessage(message);
    return { id: set, count: crops.length, cacheBytes };
  }

  /** Forgets a list and gives its share of the cache back; no batch of it may be under way. */
  drop(set: CropSet): void {
    this.#expectOpen();
    this.#cacheLeft += set.cacheBytes;
    const message: CropRequest = { kind: "drop", set: set.id };
    for (const worker of this.#workers) worker.postMessage(message);
  }

  /**
   * Decodes every crop once, filling the cache.
   *
   * @returns the crops that cannot be decoded, in order
   */
  async check(set: CropSet): Promise<readonly CropFailure[]> {
    const jobs: Promise<readonly CropFailure[]>[] = [];
    for (let start = 0; start < set.count; start += CHECK_CHUNK) {
      const length = Math.min(CHECK_CHUNK, set.count - start);
      const crops = Int32Array.from({ length }, (_, i) => start + i);
      jobs.push(
        this.#ask((job) => ({ kind: "check", job, set: set.id, crops })).then(
          (reply) => (reply.kind === "checked" ? reply.failures : []),
        ),
      );
    }
    return (await Promise.all(jobs)).flat();
  }

  /**
   * One batch of training views.
   *
   * @param crops  int32 [B], positions in the set; only read
   * @param view   which random numbers
   * @returns      float32 [B, 3, H, W]; give it back with `release` to have its memory used again
   * @throws {RemoteError} DATASET_LAYOUT naming the file that cannot be decoded
   */
  async trainingBatch(
    set: CropSet,
    crops: Int32Array,
    view: ViewKey,
  ): Promise<Float32Array> {
    return new Float32Array(
      await this.#fill(set, crops, { layout: "normalized", view }),
    );
  }

  /**
   * One batch as evaluation sees it: resized and normalized only.
   *
   * @returns float32 [B, 3, H, W]; give it back with `release`
   * @throws as {@link trainingBatch}
   */
  async evaluationBatch(
    set: CropSet,
    crops: Int32Array,
  ): Promise<Float32Array> {
    return new Float32Array(
      await this.#fill(set, crops, { layout: "normalized" }),
    );
  }

  /**
   * One batch of resized pixels, what a bundle takes.
   *
   * @returns uint8 [B, H, W, 3] RGB; give it back with `release`
   * @throws as {@link trainingBatch}
   */
  async pixelBatch(set: CropSet, crops: Int32Array): Promise<Uint8Array> {
    return new Uint8Array(await this.#fill(set, crops, { layout: "pixels" }));
  }

  /** Takes a batch's memory back; the batch must not be used afterwards. */
  release(batch: Float32Array | Uint8Array): void {
    const { buffer } = batch;
    if (!(buffer instanceof ArrayBuffer)) return;
    const spare = this.#spare.get(buffer.byteLength) ?? [];
    if (spare.length < SPARE_BUFFERS) spare.push(buffer);
    this.#spare.set(buffer.byteLength, spare);
  }

  /** Stops the workers; batches still under way are refused. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#failAll(new ClosedError("the crop loader"));
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  async #fill(
    set: CropSet,
    crops: Int32Array,
    how: Pick<FillMessage, "layout" | "view">,
  ): Promise<ArrayBuffer> {
    const { heightPx, widthPx } = this.#options;
    const elementBytes = how.layout === "normalized" ? 4 : 1;
    const bytes = crops.length * heightPx * widthPx * 3 * elementBytes;
    const buffer = this.#spare.get(bytes)?.pop() ?? new ArrayBuffer(bytes);
    const reply = await this.#ask((job) => ({
      kind: "fill",
      job,
      set: set.id,
      crops,
      buffer,
      ...how,
    }));
    return reply.kind === "filled" ? reply.buffer : buffer;
  }

  #ask(request: (job: number) => CropRequest): Promise<CropReply> {
    this.#expectOpen();
    const job = this.#nextJob++;
    const at = this.#load.indexOf(Math.min(...this.#load));
    this.#load[at]++;
    const message = request(job);
    return new Promise((resolve, reject) => {
      this.#waiting.set(job, { worker: at, resolve, reject });
      this.#workers[at].postMessage(
        message,
        message.kind === "fill" ? [message.buffer] : [],
      );
    });
  }

  #startWorker(): Worker {
    const worker = new Worker(new URL("./crops-worker.js", import.meta.url));
    worker.on("message", (reply: CropReply) => this.#settle(reply));
    worker.on("error", (error) => this.#failAll(error));
    return worker;
  }

  #settle(reply: CropReply): void {
    const waiting = this.#waiting.get(reply.job);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.job);
    this.#load[waiting.worker]--;
    if (reply.kind === "failed") waiting.reject(errorFromData(reply.error));
    else waiting.resolve(reply);
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #expectOpen(): void {
    if (this.#isClosed) throw new ClosedError("the crop loader");
  }
}

/** A job under way. */
interface Waiting {
  readonly worker: number;
  readonly resolve: (reply: CropReply) => void;
  readonly reject: (error: Error) => void;
}

/** Ranges [start, start + length) that cut `count` crops into batches. */
export function* batchesOf(
  count: number,
  batchSize: number,
): Generator<Int32Array> {
  for (let start = 0; start < count; start += batchSize)
    yield Int32Array.from(
      { length: Math.min(batchSize, count - start) },
      (_, i) => start + i,
    );
}
