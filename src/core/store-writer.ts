import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";

import { AssertionError, ClosedError } from "./errors.js";
import type {
  StoreFailure,
  StoreReply,
  StoreRequest,
  TransactionPart,
} from "./store-messages.js";
import type { StoreTransaction } from "./store-transaction.js";

/** What may be in the file of a transaction that failed: nothing; all of it, under that number; nobody knows. */
export type Remains = "nothing" | "unknown" | number;

/** A transaction that failed. Not for callers of the store: `Store` says what it means to them. */
export class TransactionFailedError extends Error {
  readonly failure: StoreFailure;
  readonly remains: Remains;

  constructor(failure: StoreFailure, remains: Remains) {
    super(failure.message);
    this.failure = failure;
    this.remains = remains;
  }
}

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

// A disk that hangs would keep the thread, and whoever closes the store.
const closeWithinMs = 30_000;

/** The thread that writes an environment's file; started with the first transaction. */
export class StoreWriter {
  readonly #path: string;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #lastId = 0;
  #isClosed = false;

  /** @param path  of the folder that holds data.mdb */
  constructor(path: string) {
    this.#path = path;
  }

  /** Resolves when the transaction is flushed. @throws {TransactionFailedError} @throws {ClosedError} */
  async commit(transaction: StoreTransaction): Promise<void> {
    if (this.#isClosed) throw new ClosedError("the store's writing thread");
    const worker = (this.#worker ??= this.#start());
    const id = ++this.#lastId;
    const committed = new Promise<void>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
    });
    // A thread that is lost meanwhile rejects it before it is waited for.
    committed.catch(() => undefined);
    worker.ref();
    for (const part of transaction.parts(id)) {
      send(worker, part);
      if (!part.isLast) await setImmediate();
    }
    await committed;
  }

  /** Waits for the transactions under way and lets the thread go. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    if (worker === undefined) return;
    const gone = new Promise<void>((resolve) => {
      worker.once("exit", () => resolve());
      setTimeout(resolve, closeWithinMs).unref();
    });
    worker.ref();
    worker.postMessage({ does: "close" } satisfies StoreRequest);
    await gone;
    worker.unref();
  }

  #start(): Worker {
    const worker = new Worker(new URL("./store-worker.js", import.meta.url), {
      workerData: { path: this.#path },
    });
    worker.on("message", (reply: StoreReply) => this.#take(worker, reply));
    worker.on("error", (error) => this.#lose(error.message));
    worker.on("exit", (code) => this.#lose(`exit code ${code}`));
    return worker;
  }

  #take(worker: Worker, reply: StoreReply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (this.#pending.size === 0) worker.unref();
    if (reply.did === "commit") pending?.resolve();
    else
      pending?.reject(
        new TransactionFailedError(
          reply.failure,
          reply.did === "fail" ? reply.transaction : "nothing",
        ),
      );
  }

  #lose(reason: string): void {
    const { message } = new AssertionError(
      `the writing thread lives: ${reason}`,
    );
    for (const { reject } of this.#pending.values())
      reject(new TransactionFailedError({ message }, "unknown"));
    this.#pending.clear();
  }
}

/** Copying what is small costs less than handing its memory over. */
const transferredFrom = 1 << 16;

function send(worker: Worker, part: TransactionPart): void {
  const { values } = part;
  worker.postMessage(
    part,
    values.length < transferredFrom ? [] : [values.buffer as ArrayBuffer],
  );
}
