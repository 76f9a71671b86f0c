import { Worker } from "node:worker_threads";
import { AssertionError, ClosedError, errorFromData } from "#core/errors";
import type { RerankReply, RerankRequest } from "./rerank-messages.js";
import type { RerankInput, RerankSettings } from "./reranking.js";

interface Pending {
  resolve(distances: Float32Array): void;
  reject(error: unknown): void;
}

/**
 * Re-ranks in a thread of its own, one query after another.
 *
 * The thread starts with the first query, does not keep the process alive, and is started anew where it died.
 */
export class Reranker {
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #nextId = 0;
  #isClosed = false;

  /**
   * `rerankedDistances` in the thread.
   *
   * @param input  its features are transferred: the caller's view is empty afterwards
   * @throws {AssertionError} the thread died
   * @throws {ClosedError} after `close`
   */
  rerank(
    input: RerankInput & { readonly features: Float32Array<ArrayBuffer> },
    settings: RerankSettings,
  ): Promise<Float32Array> {
    if (this.#isClosed) return Promise.reject(new ClosedError("the re-ranker"));
    const worker = (this.#worker ??= this.#start());
    const request: RerankRequest = { id: this.#nextId++, input, settings };
    return new Promise((resolve, reject) => {
      this.#pending.set(request.id, { resolve, reject });
      worker.postMessage(request, [input.features.buffer]);
    });
  }

  /** Ends the thread; queries under way fail with a ClosedError; idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    this.#worker = undefined;
    this.#failAll(new ClosedError("the re-ranker"));
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL("./rerank-worker.js", import.meta.url));
    worker.unref();
    worker.on("message", (reply: RerankReply) => this.#take(reply));
    worker.on("error", (error) => this.#lose(worker, error.message));
    worker.on("exit", (code) => this.#lose(worker, `exit code ${code}`));
    return worker;
  }

  #take(reply: RerankReply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if ("error" in reply) pending?.reject(errorFromData(reply.error));
    else pending?.resolve(reply.distances);
  }

  #lose(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#failAll(new AssertionError(`the re-ranking thread lives: ${reason}`));
  }

  #failAll(error: unknown): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
