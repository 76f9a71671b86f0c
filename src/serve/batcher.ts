import type { Clock } from "#core/clock";
import { ClosedError, ReidError } from "#core/errors";
import {
  CancelledError,
  DeadlineError,
  OverloadedError,
} from "./inference-errors.js";

/** Who is batched first. */
export type Priority = "interactive" | "bulk";

/** The two priorities, first served first. */
export const priorities: readonly Priority[] = ["interactive", "bulk"];

/** Every so many places of the batches, one goes to the oldest bulk job. */
const BULK_SHARE = 10;
/** Weight of the newest batch in the running time per job. */
const NEWEST_WEIGHT = 0.2;

/** One place in a queue, taken before the job is ready for it. */
export interface Place {
  readonly priority: Priority;
  /** Gives the place back; idempotent. A submitted job gives it back when it leaves the queue. */
  leave(): void;
}

/** One job on its way to a batch. */
export interface Submission<Job> {
  readonly job: Job;
  /** Jobs of different lanes never share a batch. */
  readonly lane: string;
  readonly place: Place;
  readonly signal?: AbortSignal | undefined;
}

/** How a batcher works. */
export interface BatcherOptions<Job, Result> {
  /** Jobs in one batch, at most. */
  readonly maxBatch: number;
  /** How long the first job of a batch waits for others, ms. */
  readonly windowMs: number;
  /** Jobs accepted and not yet in a batch, at most. */
  readonly queueLimits: Readonly<Record<Priority, number>>;
  /** Batches that may run at once. */
  readonly slots: number;
  readonly clock: Clock;
  /** Runs one batch; a result for each job, in their order. A rejection fails all of them. */
  run(lane: string, jobs: readonly Job[]): Promise<readonly Result[]>;
  /** Called for every job that enters a batch, with its wait in ms. */
  onDequeue?(priority: Priority, waitedMs: number): void;
}

interface Waiting<Job, Result> extends Submission<Job> {
  readonly since: number;
  resolve(result: Result): void;
  reject(error: unknown): void;
  stopListening(): void;
}

/**
 * Gathers jobs of many callers into batches.
 *
 * Interactive jobs go before bulk ones, but every tenth place goes to the oldest bulk job: a bulk load slows
 * and never starves. Both queues are bounded. A job whose signal aborts leaves its queue at once; one that is
 * in a batch already is computed and thrown away.
 */
export class Batcher<Job, Result> {
  readonly #options: BatcherOptions<Job, Result>;
  readonly #queues: Record<Priority, Waiting<Job, Result>[]> = {
    interactive: [],
    bulk: [],
  };
  readonly #depths: Record<Priority, number> = { interactive: 0, bulk: 0 };
  readonly #arriving: Record<Priority, ((place: Place) => void)[]> = {
    interactive: [],
    bulk: [],
  };
  #running = new Set<Promise<void>>();
  #sinceBulk = 0;
  #msPerJob = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: BatcherOptions<Job, Result>) {
    this.#options = options;
  }

  /** Jobs accepted and not yet in a batch, those without a submission included. */
  depth(priority: Priority): number {
    return this.#depths[priority];
  }

  /** The most that {@link depth} may be. */
  limit(priority: Priority): number {
    return this.#options.queueLimits[priority];
  }

  /**
   * Takes places in a queue, all or none.
   *
   * @param remainingMs  what is left of the caller's time; default unlimited
   * @throws {OverloadedError} the queue is full, or its present length will not be worked off in that time
   * @throws {ClosedError}
   */
  reserve(
    priority: Priority,
    count: number,
    remainingMs = Infinity,
  ): readonly Place[] {
    if (this.#isClosed) throw new ClosedError("batcher");
    const depth = this.#depths[priority];
    const limit = this.limit(priority);
    const waitMs = this.#expectedWaitMs(priority);
    if (depth + count > limit || waitMs > remainingMs)
      throw new OverloadedError(
        priority,
        { depth, limit },
        Math.max(50, Math.ceil(waitMs / 2)),
      );
    return Array.from({ length: count }, () => this.#newPlace(priority));
  }

  /**
   * Takes one place, waiting in turn for it where the queue is full.
   *
   * @returns  a promise only where there was something to wait for; it rejects as `submit` does
   */
  place(priority: Priority, signal: AbortSignal): Place | Promise<Place> {
    if (this.#isClosed) throw new ClosedError("batcher");
    if (this.#depths[priority] < this.limit(priority))
      return this.#newPlace(priority);
    const waiting = this.#arriving[priority];
    return new Promise((resolve, reject) => {
      const arrive = (place: Place) => {
        signal.removeEventListener("abort", onAbort);
        resolve(place);
      };
      const onAbort = () => {
        waiting.splice(waiting.indexOf(arrive), 1);
        reject(abortError(signal, "queue"));
      };
      if (signal.aborted) {
        reject(abortError(signal, "queue"));
        return;
      }
      signal.addEventListener("abort", onAbort, { once: true });
      waiting.push(arrive);
    });
  }

  #newPlace(priority: Priority): Place {
    this.#depths[priority] += 1;
    let isTaken = true;
    const leave = () => {
      if (!isTaken) return;
      isTaken = false;
      this.#depths[priority] -= 1;
      this.#arriving[priority].shift()?.(this.#newPlace(priority));
    };
    return { priority, leave };
  }

  /**
   * Queues one job and waits for its result.
   *
   * @throws {CancelledError} or {DeadlineError} by the signal's reason; whatever `run` rejects with
   * @throws {ClosedError}
   */
  submit(submission: Submission<Job>): Promise<Result> {
    const { signal, place } = submission;
    if (this.#isClosed || signal?.aborted === true) {
      place.leave();
      return Promise.reject(
        this.#isClosed
          ? new ClosedError("batcher")
          : abortError(signal, "queue"),
      );
    }
    return new Promise<Result>((resolve, reject) => {
      const onAbort = () => this.#abort(waiting);
      const waiting: Waiting<Job, Result> = {
        ...submission,
        since: this.#options.clock.monotonic(),
        resolve,
        reject,
        stopListening: () => signal?.removeEventListener("abort", onAbort),
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#queues[place.priority].push(waiting);
      this.#pump();
    });
  }

  /** Fails what is queued, waits for batches under way; idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const priority of priorities)
      for (const arrive of this.#arriving[priority].splice(0))
        arrive(this.#newPlace(priority));
    for (const priority of priorities)
      for (const waiting of this.#queues[priority].splice(0)) {
        waiting.place.leave();
        waiting.stopListening();
        waiting.reject(new ClosedError("batcher"));
      }
    await Promise.allSettled([...this.#running]);
  }

  #expectedWaitMs(priority: Priority): number {
    const ahead =
      priority === "bulk"
        ? this.#depths.interactive + this.#depths.bulk
        : this.#depths.interactive;
    return (ahead * this.#msPerJob) / this.#options.slots;
  }

  #abort(waiting: Waiting<Job, Result>): void {
    const queue = this.#queues[waiting.place.priority];
    const at = queue.indexOf(waiting);
    if (at >= 0) queue.splice(at, 1);
    waiting.place.leave();
    waiting.stopListening();
    waiting.reject(abortError(waiting.signal, at >= 0 ? "queue" : "encoder"));
  }

  /** Starts every batch that can start now, and sets a timer for the one that cannot yet. */
  #pump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { slots, maxBatch, windowMs, clock } = this.#options;
    while (!this.#isClosed && this.#running.size < slots) {
      const queued = priorities.flatMap((one) => this.#queues[one]);
      if (queued.length === 0) return;
      const oldest = Math.min(
        ...priorities.map((one) => this.#queues[one][0]?.since ?? Infinity),
      );
      const leftMs = oldest + windowMs - clock.monotonic();
      if (leftMs > 0 && queued.length < maxBatch) {
        this.#timer = setTimeout(() => this.#pump(), leftMs);
        return;
      }
      this.#start(this.#take());
    }
  }

  #take(): Waiting<Job, Result>[] {
    const batch: Waiting<Job, Result>[] = [];
    let lane: string | undefined;
    while (batch.length < this.#options.maxBatch) {
      const isBulkDue = this.#sinceBulk >= BULK_SHARE - 1;
      const order: readonly Priority[] = isBulkDue
        ? ["bulk", "interactive"]
        : priorities;
      const next = this.#next(order, lane);
      if (next === undefined) break;
      this.#sinceBulk =
        next.place.priority === "bulk" ? 0 : this.#sinceBulk + 1;
      lane = next.lane;
      batch.push(next);
    }
    return batch;
  }

  #next(
    order: readonly Priority[],
    lane: string | undefined,
  ): Waiting<Job, Result> | undefined {
    for (const priority of order) {
      const queue = this.#queues[priority];
      const at =
        lane === undefined ? 0 : queue.findIndex((one) => one.lane === lane);
      if (at >= 0 && at < queue.length) return queue.splice(at, 1)[0];
    }
    return undefined;
  }

  #start(batch: readonly Waiting<Job, Result>[]): void {
    const { clock, run, onDequeue } = this.#options;
    const started = clock.monotonic();
    for (const { place, since } of batch) {
      place.leave();
      onDequeue?.(place.priority, started - since);
    }
    const jobs = batch.map((one) => one.job);
    const work = run(batch[0].lane, jobs)
      .then(
        (results) => {
          this.#learn((clock.monotonic() - started) / batch.length);
          batch.forEach((one, i) => one.resolve(results[i]));
        },
        (error: unknown) => {
          for (const one of batch) one.reject(error);
        },
      )
      .finally(() => {
        for (const one of batch) one.stopListening();
        this.#running.delete(work);
        this.#pump();
      });
    this.#running.add(work);
  }

  #learn(msPerJob: number): void {
    this.#msPerJob =
      this.#msPerJob === 0
        ? msPerJob
        : (1 - NEWEST_WEIGHT) * this.#msPerJob + NEWEST_WEIGHT * msPerJob;
  }
}

/**
 * What an aborted signal means: its own reason where that is a failure of ours, the deadline where it is a
 * timeout, else the caller's cancellation.
 *
 * @param stage  where the work was: queue, encoder, sequence, search or commit
 */
export function abortError(
  signal: AbortSignal | undefined,
  stage: string,
): ReidError {
  const reason: unknown = signal?.reason;
  if (reason instanceof ReidError) return reason;
  const isTimeout = reason instanceof Error && reason.name === "TimeoutError";
  return isTimeout ? new DeadlineError(stage) : new CancelledError(stage);
}
