import { abortError } from "./batcher.js";

interface Waiting {
  readonly pixels: number;
  start(): void;
}

/** Bounds how many pixels are decoded at once, all calls together; first come, first served. */
export class DecodeGate {
  readonly #limit: number;
  readonly #queue: Waiting[] = [];
  #inUse = 0;

  /** @param limit  pixels at once; one crop alone may be larger */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Pixels being decoded now. */
  get inUse(): number {
    return this.#inUse;
  }

  /**
   * Runs the work when its pixels fit beside what is running.
   *
   * @throws {CancelledError} or {DeadlineError}: the signal aborted while it waited
   */
  async pass<Result>(
    pixels: number,
    signal: AbortSignal | undefined,
    work: () => Promise<Result>,
  ): Promise<Result> {
    await this.#enter(pixels, signal);
    try {
      return await work();
    } finally {
      this.#inUse -= pixels;
      this.#admit();
    }
  }

  #enter(pixels: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true)
      return Promise.reject(abortError(signal, "queue"));
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1);
        reject(abortError(signal, "queue"));
        this.#admit();
      };
      const waiting: Waiting = {
        pixels,
        start: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#queue.push(waiting);
      this.#admit();
    });
  }

  #admit(): void {
    for (;;) {
      const [next] = this.#queue;
      const fits =
        this.#inUse === 0 || this.#inUse + (next?.pixels ?? 0) <= this.#limit;
      if (next === undefined || !fits) return;
      this.#queue.shift();
      this.#inUse += next.pixels;
      next.start();
    }
  }
}
