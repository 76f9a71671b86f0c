import { Worker } from "node:worker_threads";

import { assert, ClosedError, errorFromData } from "#core/errors";

import type {
  Clustering,
  ClusteringInput,
  ClusteringSettings,
} from "./clustering-run.js";
import type {
  ClusteringReply,
  ClusteringRequest,
} from "./clustering-messages.js";
import type { ConsensusChoice, ConsensusOptions } from "./consensus.js";
import {
  ClusteringCancelledError,
  ClusteringWorkerLostError,
} from "./errors.js";

/**
 * Clusters in a thread of its own, one request after another.
 *
 * Buffers that lie on a SharedArrayBuffer are read where they are and must not change until the
 * answer; others are copied. The thread starts with the first request, does not keep the process
 * alive while idle, and is started anew after a cancellation.
 */
export class ClusteringWorker {
  #worker: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /**
   * Clusters instances: `clusterInstances` in the thread.
   *
   * @param signal  stops the work at once
   * @throws {ShapeError} the buffers do not fit each other
   * @throws {ClusteringCancelledError} by the signal
   * @throws {ClusteringWorkerLostError} the thread died
   * @throws {ClosedError} after `close`
   */
  async cluster(
    input: ClusteringInput,
    settings: ClusteringSettings,
    signal?: AbortSignal,
  ): Promise<Clustering> {
    const request = { kind: "cluster", input, settings } as const;
    const reply = await this.#ask(request, signal);
    assert(reply.kind === "cluster", "a clustering answers a clustering");
    return reply.clustering;
  }

  /**
   * Chooses k1 and eps by consensus: `chooseClustering` in the thread. Throws as `cluster` does.
   *
   * @param input  with neighbour lists as wide as the largest k1 of the grid, 30
   */
  async choose(
    input: ClusteringInput,
    options: ConsensusOptions,
    signal?: AbortSignal,
  ): Promise<ConsensusChoice> {
    const request = { kind: "choose", input, options } as const;
    const reply = await this.#ask(request, signal);
    assert(reply.kind === "choose", "a choice answers a choice");
    return reply.choice;
  }

  /** Removes each camera's mean: `centreByCamera` in the thread. Throws as `cluster` does. */
  async centre(
    features: Float32Array,
    cameraIds: Int32Array,
    dimension: number,
  ): Promise<Float32Array> {
    const request = { kind: "centre", features, cameraIds, dimension } as const;
    const reply = await this.#ask(request, undefined);
    assert(reply.kind === "centre", "centred rows answer rows");
    return reply.centred;
  }

  /** Waits for work under way and ends the thread; idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  async #ask(
    request: ClusteringRequest,
    signal: AbortSignal | undefined,
  ): Promise<ClusteringReply> {
    if (this.#closed) throw new ClosedError("the clustering worker");
    const turn = this.#last.then(() => this.#run(request, signal));
    this.#last = turn.catch(() => undefined);
    const reply = await turn;
    if (reply.kind === "failed") throw errorFromData(reply.error);
    return reply;
  }

  #run(
    request: ClusteringRequest,
    signal: AbortSignal | undefined,
  ): Promise<ClusteringReply> {
    const instances = instancesOf(request);
    if (signal?.aborted)
      return Promise.reject(new ClusteringCancelledError(instances));
    this.#worker ??= new Worker(
      new URL("./clustering-worker.js", import.meta.url),
    );
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        // By name: without one, Node's own listeners would go too, and no later message would arrive.
        for (const event of ["message", "error", "exit"])
          worker.removeAllListeners(event);
        signal?.removeEventListener("abort", cancel);
        worker.unref();
      };
      const lose = (reason: string): void => {
        finish();
        this.#worker = undefined;
        reject(new ClusteringWorkerLostError(instances, reason));
      };
      const cancel = (): void => {
        finish();
        this.#worker = undefined;
        const error = new ClusteringCancelledError(instances);
        void worker.terminate().then(() => reject(error));
      };
      worker.ref();
      worker.once("message", (reply: ClusteringReply) => {
        finish();
        resolve(reply);
      });
      worker.once("error", (error) => lose(error.message));
      worker.once("exit", (code) => lose(`exit code ${code}`));
      signal?.addEventListener("abort", cancel, { once: true });
      worker.postMessage(request);
    });
  }
}

function instancesOf(request: ClusteringRequest): number {
  if (request.kind === "centre")
    return request.features.length / request.dimension;
  return request.input.features.length / request.input.dimension;
}
