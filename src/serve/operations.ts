import { randomUUID } from "node:crypto";
import type { Clock } from "#core/clock";
import { dataFromError, errorFromData, ReidError } from "#core/errors";
import type { Log } from "#core/log";
import { CancelledError } from "./inference-errors.js";
import type { OperationTable, SharedOperations } from "./operation-table.js";
import type {
  Operation,
  OperationKind,
  OperationWork,
  Resumers,
  WithOperation,
} from "./operation-types.js";

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

/** What an operation log needs. */
export interface OperationLogOptions {
  readonly table: OperationTable;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often servers that share their operations hear of each other. */
const EXCHANGE_MS = 1000;

interface RunningWork {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

/**
 * All long work, durable: a restart goes on with it or fails it, and forgets nothing.
 *
 * Where servers share their operations each knows all of them, up to a second late or up to the last
 * {@link refresh}; what a server leaves that dies, another goes on with.
 */
export class OperationLog {
  readonly #options: OperationLogOptions;
  readonly #table: OperationTable;
  readonly #operations = new Map<string, Operation>();
  readonly #running = new Map<string, RunningWork>();
  readonly #watchers = new Map<string, Set<() => void>>();
  #resumers: Resumers = {};
  #isClosing = false;
  /** Ids of works that another server has taken over: how they end here counts for nothing. */
  readonly #lost = new Set<string>();
  readonly #timer: NodeJS.Timeout | undefined;
  #exchanging: Promise<void> | undefined;
  #isResumed = false;

  private constructor(options: OperationLogOptions) {
    this.#options = options;
    this.#table = options.table;
    if (this.#table.shared === undefined) return;
    this.#timer = setInterval(() => {
      this.#takePart().catch((error: unknown) => {
        options.log.warn("operations of other servers are not known for now", {
          error,
        });
      });
    }, EXCHANGE_MS);
    this.#timer.unref();
  }

  /** Reads what the store holds; what was under way when the server stopped waits for {@link resume}. */
  static async open(options: OperationLogOptions): Promise<OperationLog> {
    const operations = new OperationLog(options);
    await operations.#read();
    return operations;
  }

  /**
   * Goes on with what was under way when the server stopped, and fails what cannot be gone on with.
   *
   * @param resumers  of this server; they also hold when it ends: their works stay running in the store
   */
  async resume(resumers: Resumers): Promise<void> {
    this.#resumers = resumers;
    this.#isResumed = true;
    await this.#takeOver();
  }

  /** Learns what other servers have done; they are asked at most once at a time. */
  async refresh(): Promise<void> {
    const { shared } = this.#table;
    if (shared === undefined) return;
    // What another asks for while an answer is on its way may be newer than that answer.
    const before = this.#exchanging;
    if (before !== undefined) await before.catch(() => undefined);
    this.#exchanging ??= this.#exchange(shared).finally(
      () => (this.#exchanging = undefined),
    );
    return this.#exchanging;
  }

  async #takePart(): Promise<void> {
    if (this.#isClosing) return;
    await this.refresh();
    if (this.#isResumed) await this.#takeOver();
  }

  async #exchange(shared: SharedOperations): Promise<void> {
    const running = [...this.#running.keys()].map((id) => this.get(id));
    const { changed, toStop, lost } = await shared.exchange(running);
    for (const one of changed) {
      const known = this.#operations.get(one.operationId);
      if (JSON.stringify(known) !== JSON.stringify(one)) this.#set(one);
    }
    for (const id of toStop)
      this.#running.get(id)?.abort.abort(new CancelledError("operation"));
    for (const id of lost) {
      if (!this.#running.has(id)) continue;
      this.#lost.add(id);
      this.#running.get(id)?.abort.abort(new OperationInterruptedError(id));
    }
  }

  async #takeOver(): Promise<void> {
    const { clock } = this.#options;
    const interrupted: Operation[] = [];
    for (const operation of await this.#table.claim()) {
      const { operationId, kind } = operation;
      if (this.#running.has(operationId)) continue;
      this.#operations.set(operationId, operation);
      const resumer = this.#resumers[kind];
      if (resumer !== undefined) this.#run(operationId, resumer(operation));
      else
        interrupted.push({
          ...operation,
          state: "failed",
          finishedAtMs: clock.now(),
          error: dataFromError(new OperationInterruptedError(operationId)),
        });
    }
    if (interrupted.length === 0) return;
    await this.#table.put(interrupted);
    for (const one of interrupted) this.#set(one);
  }

  /** All of them, newest first. */
  list(): readonly Operation[] {
    return [...this.#operations.values()]
      .filter((operation) => !this.#isOld(operation))
      .sort(
        (a, b) =>
          b.createdAtMs - a.createdAtMs ||
          (a.operationId < b.operationId ? -1 : 1),
      );
  }

  /** @throws {OperationNotFoundError} */
  get(operationId: string): Operation {
    const operation = this.#operations.get(operationId);
    if (operation === undefined || this.#isOld(operation))
      throw new OperationNotFoundError(operationId);
    return operation;
  }

  /**
   * The work under way on a subject that changes it, snapshots left out; undefined: none.
   *
   * Of a gallery that servers share, the work of any of them.
   */
  runningOn(subject: string): Operation | undefined {
    const isShared =
      this.#table.shared !== undefined && subject.startsWith("gallery/");
    const ids = isShared ? this.#operations.keys() : this.#running.keys();
    for (const operationId of ids) {
      const operation = this.get(operationId);
      const isOn =
        operation.subject === subject && operation.kind !== "snapshot";
      if (isOn && operation.state === "running") return operation;
    }
    return undefined;
  }

  /**
   * Starts a long work and answers at once.
   *
   * @param withOperation  puts what belongs to it, such as the response to a request id, into the same transaction
   * @returns      the operation, durable
   * @throws {GalleryBusyError} another server works on the same gallery
   */
  async start(
    kind: OperationKind,
    subject: string,
    work: OperationWork,
    withOperation?: WithOperation,
  ): Promise<Operation> {
    const now = this.#options.clock.now();
    const operationId = randomUUID();
    const started: Operation = {
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
    };
    await this.#save(started, withOperation);
    this.#run(operationId, work);
    return started;
  }

  /**
   * Asks a work to stop; idempotent, and no error where it is done already.
   *
   * @throws {OperationNotFoundError}
   */
  async cancel(operationId: string): Promise<Operation> {
    const operation = this.get(operationId);
    const running = this.#running.get(operationId);
    if (running !== undefined)
      running.abort.abort(new CancelledError("operation"));
    else if (operation.state === "running")
      await this.#table.shared?.askToStop(operationId);
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

  /** Stops what is under way and waits for it; what the next start goes on with stays running in the store. */
  async close(): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#timer);
    await this.#exchanging?.catch(() => undefined);
    const running = [...this.#running];
    for (const [operationId, { abort }] of running)
      abort.abort(new OperationInterruptedError(operationId));
    await Promise.allSettled(running.map(([, { done }]) => done));
    // Where the database does not answer either, they have to wait for what they have of this server to run out.
    await this.#table.shared?.leave().catch(() => undefined);
  }

  async #read(): Promise<void> {
    for (const value of await this.#table.read())
      this.#operations.set(value.operationId, value);
    await this.#forgetOld();
  }

  /** Removes what nobody is told of any more. */
  async #forgetOld(): Promise<void> {
    const old = [...this.#operations.values()]
      .filter((operation) => this.#isOld(operation))
      .map(({ operationId }) => operationId);
    if (old.length === 0) return;
    await this.#table.remove(old);
    for (const id of old) this.#operations.delete(id);
  }

  /** Whether it ended too long ago to be remembered. */
  #isOld({ finishedAtMs }: Operation): boolean {
    return (
      finishedAtMs !== undefined &&
      this.#options.clock.now() - finishedAtMs > KEPT_MS
    );
  }

  #run(operationId: string, work: OperationWork): void {
    const abort = new AbortController();
    const done = this.#follow(operationId, abort.signal, work);
    this.#running.set(operationId, { abort, done });
    void done.finally(() => this.#running.delete(operationId));
  }

  async #follow(
    operationId: string,
    signal: AbortSignal,
    work: OperationWork,
  ): Promise<void> {
    const { clock, log } = this.#options;
    let end: Pick<Operation, "state" | "error" | "detail">;
    try {
      const detail = await work({
        operationId,
        signal,
        report: (doneCount, totalCount) =>
          this.#report(operationId, doneCount, totalCount),
      });
      end = { state: "succeeded", error: undefined, detail };
    } catch (error) {
      if (this.#lost.delete(operationId)) return;
      const { kind, detail } = this.get(operationId);
      // Stopped because the server ends: the next start finds it running and goes on.
      const isInterrupted = this.#isClosing && signal.aborted;
      if (isInterrupted && this.#resumers[kind] !== undefined) return;
      end = { ...endOf(isInterrupted ? signal.reason : error), detail };
      if (end.state === "failed" && !isInterrupted)
        log.error("operation failed", { operationId, error });
    }
    const finishedAtMs = clock.now();
    try {
      await this.#save({ ...this.get(operationId), ...end, finishedAtMs });
    } catch (error) {
      // The store is full or read-only: the end is known here, and after a restart it counts as interrupted.
      this.#set({ ...this.get(operationId), ...end, finishedAtMs });
      log.error("operation's end could not be stored", { operationId, error });
    }
    await this.#forgetOld().catch((error: unknown) => {
      log.warn("old operations stay in the store for now", { error });
    });
  }

  #report(operationId: string, doneCount: number, totalCount: number): void {
    const operation = this.get(operationId);
    const progressedAtMs =
      doneCount > operation.doneCount
        ? this.#options.clock.now()
        : operation.progressedAtMs;
    this.#set({ ...operation, doneCount, totalCount, progressedAtMs });
  }

  async #save(
    operation: Operation,
    withOperation?: WithOperation,
  ): Promise<void> {
    await this.#table.put([operation], (writer) =>
      withOperation?.(writer, operation),
    );
    this.#set(operation);
  }

  #set(operation: Operation): void {
    this.#operations.set(operation.operationId, operation);
    for (const onChange of this.#watchers.get(operation.operationId) ?? [])
      onChange();
  }
}

/** How an operation ends that threw. */
function endOf(error: unknown): Pick<Operation, "state" | "error"> {
  const data = dataFromError(error);
  if (!(error instanceof ReidError))
    // What is not a failure of ours may hold anything; its text stays in the log.
    return {
      state: "failed",
      error: { ...data, message: "a bug of the server" },
    };
  return {
    state: error.kind === "cancelled" ? "cancelled" : "failed",
    error: data,
  };
}

/** The failure that an operation ended with; undefined: none. */
export function operationError(operation: Operation): ReidError | undefined {
  return operation.error === undefined
    ? undefined
    : errorFromData(operation.error);
}
