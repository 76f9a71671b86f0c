import { randomUUID } from "node:crypto";
import type { Clock } from "#core/clock";
import {
  dataFromError,
  errorFromData,
  ReidError,
  type ErrorData,
} from "#core/errors";
import type { Log } from "#core/log";
import type { Store, Table } from "#core/store";

/** What a long work is about. */
export type OperationKind =
  "migration" | "rebuild" | "recluster" | "snapshot" | "backup" | "restore";

/** How far it is. */
export type OperationState = "running" | "succeeded" | "failed" | "cancelled";

/** What a clustering operation made. */
export interface ReclusterDetail {
  readonly kind: "recluster";
  readonly clustering: number;
  readonly clusterCount: number;
  readonly outlierCount: number;
  readonly eps: number;
}

/** One long work, as it is now. Times are milliseconds since 1970. */
export interface Operation {
  readonly operationId: string;
  readonly kind: OperationKind;
  readonly state: OperationState;
  /** `gallery/<name>`, `memory/<name>` or `backup/<id>`. */
  readonly subject: string;
  readonly doneCount: number;
  /** 0: not known. */
  readonly totalCount: number;
  readonly createdAtMs: number;
  readonly progressedAtMs: number;
  readonly finishedAtMs: number | undefined;
  readonly error: ErrorData | undefined;
  readonly detail: ReclusterDetail | undefined;
}

/** What the work itself may say. */
export interface OperationProgress {
  readonly operationId: string;
  /** Aborted by `cancel`. */
  readonly signal: AbortSignal;
  report(doneCount: number, totalCount: number): void;
}

/** No operation of that id. */
export class OperationNotFoundError extends ReidError<{ operationId: string }> {
  readonly code = "OPERATION_NOT_FOUND";
  readonly kind = "not-found";

  constructor(operationId: string) {
    super(
      `there is no operation ${operationId}: it never was, or is older than 7 days`,
      { operationId },
    );
  }
}

/** The server stopped while the work was under way, and does not go on with it. */
export class OperationInterruptedError extends ReidError<{
  operationId: string;
}> {
  readonly code = "OPERATION_INTERRUPTED";
  readonly kind = "unavailable";

  constructor(operationId: string) {
    super(
      `operation ${operationId} was under way when the server stopped: start it again`,
      { operationId },
    );
  }
}

/** How long a finished operation is remembered. */
const KEPT_MS = 7 * 24 * 3600 * 1000;

/**
 * All long work of this server, durable: a restart fails what was under way, and forgets nothing.
 */
export class OperationLog {
  readonly #store: Store;
  readonly #table: Table<Operation>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #operations = new Map<string, Operation>();
  readonly #running = new Map<
    string,
    { readonly abort: AbortController; readonly done: Promise<void> }
  >();
  readonly #watchers = new Map<string, Set<() => void>>();

  private constructor(store: Store, clock: Clock, log: Log) {
    this.#store = store;
    this.#table = store.table<Operation>("operations", "data");
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads what the store holds; what was running failed when the server stopped. */
  static async open(
    store: Store,
    clock: Clock,
    log: Log,
  ): Promise<OperationLog> {
    const operations = new OperationLog(store, clock, log);
    await operations.#recover();
    return operations;
  }

  /** All of them, newest first. */
  list(): readonly Operation[] {
    return [...this.#operations.values()].sort(
      (a, b) =>
        b.createdAtMs - a.createdAtMs ||
        (a.operationId < b.operationId ? -1 : 1),
    );
  }

  /** @throws {OperationNotFoundError} */
  get(operationId: string): Operation {
    const operation = this.#operations.get(operationId);
    if (operation === undefined) throw new OperationNotFoundError(operationId);
    return operation;
  }

  /**
   * Starts a long work and answers at once.
   *
   * @param work  gives the detail of its success; rejects where it fails or was cancelled
   * @returns     the operation, durable
   */
  async start(
    kind: OperationKind,
    subject: string,
    work: (progress: OperationProgress) => Promise<ReclusterDetail | undefined>,
  ): Promise<Operation> {
    const now = this.#clock.now();
    const operationId = randomUUID();
    await this.#save({
      operationId,
      kind,
      state: "running",
      subject,
      doneCount: 0,
      totalCount: 0,
      createdAtMs: now,
      progressedAtMs: now,
      finishedAtMs: undefined,
      error: undefined,
      detail: undefined,
    });
    const abort = new AbortController();
    const started = this.get(operationId);
    const done = this.#follow(operationId, () =>
      work({
        operationId,
        signal: abort.signal,
        report: (doneCount, totalCount) =>
          this.#report(operationId, doneCount, totalCount),
      }),
    );
    this.#running.set(operationId, { abort, done });
    void done.finally(() => this.#running.delete(operationId));
    return started;
  }

  /**
   * Asks a work to stop; idempotent, and no error where it is done already.
   *
   * @throws {OperationNotFoundError}
   */
  cancel(operationId: string): Operation {
    const operation = this.get(operationId);
    this.#running.get(operationId)?.abort.abort();
    return operation;
  }

  /**
   * Calls back at every change.
   *
   * @returns  ends it
   * @throws {OperationNotFoundError}
   */
  watch(operationId: string, onChange: () => void): () => void {
    this.get(operationId);
    const watchers = this.#watchers.get(operationId) ?? new Set();
    this.#watchers.set(operationId, watchers.add(onChange));
    return () => {
      watchers.delete(onChange);
      if (watchers.size === 0) this.#watchers.delete(operationId);
    };
  }

  /** Cancels what is under way and waits for it. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { abort } of running) abort.abort();
    await Promise.allSettled(running.map(({ done }) => done));
  }

  async #recover(): Promise<void> {
    const now = this.#clock.now();
    const changed: Operation[] = [];
    const old: string[] = [];
    for (const { value } of this.#table.range()) {
      if (now - (value.finishedAtMs ?? now) > KEPT_MS) {
        old.push(value.operationId);
        continue;
      }
      const isRunning = value.state === "running";
      const operation: Operation = isRunning
        ? {
            ...value,
            state: "failed",
            finishedAtMs: now,
            error: dataFromError(
              new OperationInterruptedError(value.operationId),
            ),
          }
        : value;
      if (isRunning) changed.push(operation);
      this.#operations.set(operation.operationId, operation);
    }
    if (changed.length + old.length === 0) return;
    await this.#store.write((writer) => {
      for (const one of changed) writer.put(this.#table, one.operationId, one);
      for (const id of old) writer.remove(this.#table, id);
    });
  }

  async #follow(
    operationId: string,
    work: () => Promise<ReclusterDetail | undefined>,
  ): Promise<void> {
    let end: Pick<Operation, "state" | "error" | "detail">;
    try {
      const detail = await work();
      end = { state: "succeeded", error: undefined, detail };
    } catch (error) {
      const isCancelled =
        error instanceof ReidError && error.kind === "cancelled";
      const data = dataFromError(error);
      end = {
        state: isCancelled ? "cancelled" : "failed",
        // What is not a failure of ours may hold anything; its text stays in the log.
        error:
          error instanceof ReidError
            ? data
            : { ...data, message: "a bug of the server" },
        detail: undefined,
      };
      if (!isCancelled)
        this.#log.error("operation failed", { operationId, error });
    }
    const finishedAtMs = this.#clock.now();
    try {
      await this.#save({ ...this.get(operationId), ...end, finishedAtMs });
    } catch (error) {
      // The store is full or read-only: the end is known here, and after a restart it counts as interrupted.
      this.#set({ ...this.get(operationId), ...end, finishedAtMs });
      this.#log.error("operation's end could not be stored", {
        operationId,
        error,
      });
    }
  }

  #report(operationId: string, doneCount: number, totalCount: number): void {
    const operation = this.get(operationId);
    const progressedAtMs =
      doneCount > operation.doneCount
        ? this.#clock.now()
        : operation.progressedAtMs;
    this.#set({ ...operation, doneCount, totalCount, progressedAtMs });
  }

  async #save(operation: Operation): Promise<void> {
    await this.#store.write((writer) => {
      writer.put(this.#table, operation.operationId, operation);
    });
    this.#set(operation);
  }

  #set(operation: Operation): void {
    this.#operations.set(operation.operationId, operation);
    for (const onChange of this.#watchers.get(operation.operationId) ?? [])
      onChange();
  }
}

/** The failure that an operation ended with; undefined: none. */
export function operationError(operation: Operation): ReidError | undefined {
  return operation.error === undefined
    ? undefined
    : errorFromData(operation.error);
}
