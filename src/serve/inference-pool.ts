import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { ClosedError, errorFromData, ReidError } from "#core/errors";
import type { Log } from "#core/log";
import { InferenceUnavailableError } from "./inference-errors.js";
import type {
  EncoderSource,
  WorkerRequest,
  WorkerResponse,
  WorkerSettings,
} from "./inference-messages.js";

/** What a worker is doing. `dead`: it has ended and waits to be started again. */
export type WorkerState = "starting" | "idle" | "busy" | "dead";

/** How the workers are made. */
export interface PoolOptions extends WorkerSettings {
  /** Number of workers. */
  readonly workers: number;
  readonly log: Log;
}

/** One run of the encoder. */
export interface RunResult {
  /** float32 [batch, D], owned by the caller. */
  readonly features: Float32Array;
  readonly encoderMs: number;
}

/** First wait before a worker that died is started again; doubles to the last. */
const RESTART_MS = { first: 100, last: 30_000 };
/** Deaths in a row after which callers are turned away instead of waiting. */
const PATIENCE = 3;
/** A worker that lived so long starts again at once. */
const HEALTHY_MS = 10_000;

type Distribute<T> = T extends unknown ? Omit<T, "id"> : never;
type RequestBody = Distribute<WorkerRequest>;

interface Slot {
  worker: Worker | undefined;
  state: WorkerState;
  device: string;
  restarts: number;
  nextId: number;
  startedAt: number;
  timer: NodeJS.Timeout | undefined;
  readonly pending: Map<
    number,
    { resolve(response: WorkerResponse): void; reject(error: unknown): void }
  >;
}

/**
 * How many workers and threads a machine gets where the configuration leaves it open.
 *
 * One worker for every four cores: more share a batch's cores less well than the engine itself does. All
 * cores are shared out.
 */
export function planWorkers(
  workers: number,
  threadsPerWorker: number,
): { readonly workers: number; readonly threads: number } {
  const cores = availableParallelism();
  const count = workers > 0 ? workers : Math.max(1, Math.floor(cores / 4));
  const threads =
    threadsPerWorker > 0
      ? threadsPerWorker
      : Math.max(1, Math.floor(cores / count));
  return { workers: count, threads };
}

/** Worker threads that run encoders; one that dies is replaced. */
export class InferencePool {
  readonly #options: PoolOptions;
  readonly #slots: Slot[];
  readonly #encoders = new Map<string, EncoderSource>();
  readonly #waiting: { take(slot: Slot): void; fail(error: unknown): void }[] =
    [];
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.workers }, () => ({
      worker: undefined,
      state: "starting",
      device: "",
      restarts: 0,
      nextId: 0,
      startedAt: 0,
      timer: undefined,
      pending: new Map(),
    }));
    for (const slot of this.#slots) this.#spawn(slot);
  }

  /** Number of workers, whatever they are doing. */
  get size(): number {
    return this.#slots.length;
  }

  /** What each worker is doing. */
  states(): readonly WorkerState[] {
    return this.#slots.map((slot) => slot.state);
  }

  /** Devices that encoders run on, each once. */
  devices(): readonly string[] {
    return [...new Set(this.#slots.map((slot) => slot.device))].filter(Boolean);
  }

  /**
   * Loads an encoder into every worker and warms it up.
   *
   * @returns  the device it runs on
   * @throws {ReidError} it cannot be loaded; then it is in no worker
   */
  async load(encoder: EncoderSource): Promise<string> {
    if (this.#isClosed) throw new ClosedError("inference");
    this.#encoders.set(encoder.key, encoder);
    try {
      const devices = await Promise.all(
        this.#slots.map((slot) => this.#loadInto(slot, encoder)),
      );
      return devices.find((device) => device !== "") ?? this.#options.device;
    } catch (error) {
      await this.unload(encoder.key);
      throw error;
    }
  }

  /** Takes an encoder out of every worker, after the runs that are queued. */
  async unload(key: string): Promise<void> {
    this.#encoders.delete(key);
    await Promise.allSettled(
      this.#slots.map((slot) => this.#ask(slot, { type: "unload", key })),
    );
  }

  /**
   * Runs a batch on the next worker that is free; once more where the worker died over it.
   *
   * @param crops  each uint8 [H, W, 3]; copied for the worker, so that a second try has them
   * @throws {InferenceUnavailableError} no worker lives, or two died over this batch
   */
  async run(key: string, crops: readonly Uint8Array[]): Promise<RunResult> {
    try {
      return await this.#runOnce(key, crops);
    } catch (error) {
      if (!(error instanceof WorkerDiedError)) throw error;
      this.#options.log.warn("encoder worker died over a batch, trying again", {
        model: key,
        error,
      });
    }
    try {
      return await this.#runOnce(key, crops);
    } catch (error) {
      if (!(error instanceof WorkerDiedError)) throw error;
      throw new InferenceUnavailableError(key, "two workers died over it", {
        cause: error,
      });
    }
  }

  /** Ends one worker as a crash would, so that the recovery can be tried out; it is replaced. */
  async killWorker(position: number): Promise<void> {
    await this.#slots[position]?.worker?.terminate();
  }

  /** Ends the workers, failing what they had; idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { fail } of this.#waiting.splice(0))
      fail(new ClosedError("inference"));
    await Promise.all(
      this.#slots.map(async (slot) => {
        clearTimeout(slot.timer);
        await slot.worker?.terminate();
      }),
    );
  }

  async #runOnce(
    key: string,
    crops: readonly Uint8Array[],
  ): Promise<RunResult> {
    const slot = await this.#acquire(key);
    try {
      const copies = crops.map((crop) => new Uint8Array(crop).buffer);
      const response = await this.#ask(
        slot,
        { type: "run", key, crops: copies },
        copies,
      );
      if (response.type !== "features")
        throw new InferenceUnavailableError(key, `answer ${response.type}`);
      return response;
    } finally {
      this.#release(slot);
    }
  }

  #acquire(key: string): Promise<Slot> {
    if (this.#isClosed) return Promise.reject(new ClosedError("inference"));
    const idle = this.#slots.find((slot) => slot.state === "idle");
    if (idle !== undefined) {
      idle.state = "busy";
      return Promise.resolve(idle);
    }
    if (this.#isHopeless())
      return Promise.reject(
        new InferenceUnavailableError(key, "every worker has died"),
      );
    return new Promise((take, fail) => this.#waiting.push({ take, fail }));
  }

  /** Whether no worker lives and each has died again and again: waiting for one would be in vain. */
  #isHopeless(): boolean {
    return this.#slots.every(
      ({ state, restarts }) => state === "dead" && restarts > PATIENCE,
    );
  }

  #release(slot: Slot): void {
    if (slot.state === "dead" || slot.state === "starting") return;
    const next = this.#waiting.shift();
    slot.state = next === undefined ? "idle" : "busy";
    next?.take(slot);
  }

  #spawn(slot: Slot): void {
    const { device, threads, maxBatch } = this.#options;
    const worker = new Worker(
      new URL("./inference-worker.js", import.meta.url),
      { workerData: { device, threads, maxBatch } satisfies WorkerSettings },
    );
    slot.worker = worker;
    slot.state = "starting";
    slot.startedAt = performance.now();
    let cause: unknown;
    worker.on("message", (response: WorkerResponse) =>
      this.#settle(slot, response),
    );
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => this.#onExit(slot, cause));
    this.#prepare(slot).catch((error: unknown) => {
      if (!this.#isClosed)
        this.#options.log.error("encoder worker could not be prepared", {
          error,
        });
    });
  }

  /** Gives a new worker every encoder that is loaded, then lets it work. */
  async #prepare(slot: Slot): Promise<void> {
    for (const encoder of this.#encoders.values())
      await this.#loadInto(slot, encoder);
    if (slot.state !== "starting") return;
    slot.state = "idle";
    this.#release(slot);
  }

  async #loadInto(slot: Slot, encoder: EncoderSource): Promise<string> {
    if (slot.state === "dead") return "";
    const response = await this.#ask(slot, { type: "load", encoder });
    slot.device = response.type === "loaded" ? response.device : slot.device;
    return slot.device;
  }

  #ask(
    slot: Slot,
    body: RequestBody,
    transferred: ArrayBuffer[] = [],
  ): Promise<WorkerResponse> {
    const { worker } = slot;
    if (worker === undefined)
      return Promise.reject(new WorkerDiedError({ cause: "not running" }));
    const id = slot.nextId++;
    return new Promise((resolve, reject) => {
      slot.pending.set(id, { resolve, reject });
      worker.postMessage({ ...body, id } satisfies WorkerRequest, transferred);
    });
  }

  #settle(slot: Slot, response: WorkerResponse): void {
    const waiting = slot.pending.get(response.id);
    slot.pending.delete(response.id);
    if (response.type === "failed")
      waiting?.reject(errorFromData(response.error));
    else waiting?.resolve(response);
  }

  #onExit(slot: Slot, cause: unknown): void {
    slot.worker = undefined;
    slot.state = "dead";
    const error = new WorkerDiedError({ cause });
    for (const { reject } of slot.pending.values()) reject(error);
    slot.pending.clear();
    if (this.#isClosed) return;
    const livedMs = performance.now() - slot.startedAt;
    slot.restarts = livedMs > HEALTHY_MS ? 0 : slot.restarts + 1;
    const waitMs =
      slot.restarts === 0
        ? 0
        : Math.min(
            RESTART_MS.last,
            RESTART_MS.first * 2 ** (slot.restarts - 1),
          );
    this.#options.log.error("encoder worker ended, starting another", {
      waitMs,
      error: cause,
    });
    slot.timer = setTimeout(() => this.#spawn(slot), waitMs);
    if (this.#isHopeless())
      for (const { fail } of this.#waiting.splice(0))
        fail(new InferenceUnavailableError("", "every worker has died"));
  }
}

/** A worker ended while it had work; leaves this module only as a cause. */
class WorkerDiedError extends ReidError<{ worker: string }> {
  readonly code = "ENGINE_UNAVAILABLE";
  readonly kind = "unavailable";

  constructor(options: ErrorOptions) {
    super(
      "an encoder worker ended: try again, it is being restarted",
      { worker: "encoder" },
      options,
    );
  }
}
