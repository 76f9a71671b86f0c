import type { MemoryOptions } from "./online-memory-types.js";
import type { MemoryRows } from "./online-rows.js";
import type { MemoryState, MemoryStore } from "./online-store.js";

/** Times `memory.flush_ms` between two tries where the disk does not take a write. */
const WAIT_AFTER_FAILURE = 10;

/** What is written, and where. */
export interface FlushOptions extends Pick<
  MemoryOptions,
  "config" | "log" | "model"
> {
  readonly rows: MemoryRows;
  readonly store: MemoryStore;
  /** What the store holds beside the rows, as of now. */
  readonly state: () => MemoryState;
}

/** Brings rows to the disk: some time after they have changed, one write at a time. */
export class RowFlushes {
  readonly #options: FlushOptions;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #isFailing = false;
  #isClosed = false;

  constructor(options: FlushOptions) {
    this.#options = options;
  }

  /** Writes within `memory.flush_ms`. */
  plan(): void {
    this.#planIn(this.#options.config.flushMs);
  }

  /** Writes what has changed, now; what changes meanwhile is written by the next. Never rejects. */
  async flush(): Promise<void> {
    if (!this.#options.rows.hasChanges && this.#writing === undefined) return;
    await this.#alone(() => this.#flushNow());
  }

  /**
   * The same for a caller who has to know.
   *
   * @throws {StoreFullError} @throws {StoreReadOnlyError} the changes are tried again with the next write
   */
  async write(): Promise<void> {
    const { rows, store, state } = this.#options;
    await this.#alone(() => store.writeRows(rows, state()));
  }

  /** Writes what is left, and tries no more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.flush();
  }

  async #alone(write: () => Promise<void>): Promise<void> {
    while (this.#writing !== undefined)
      await this.#writing.catch(() => undefined);
    this.#writing = write();
    try {
      await this.#writing;
    } finally {
      this.#writing = undefined;
    }
  }

  #planIn(waitMs: number): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, waitMs);
  }

  async #flushNow(): Promise<void> {
    const { config, log, model, rows, store, state } = this.#options;
    if (!rows.hasChanges) return;
    try {
      await store.writeRows(rows, state());
      if (this.#isFailing)
        log.info("memory rows reach the disk again", { memory: model.name });
      this.#isFailing = false;
    } catch (error) {
      // Rows stay marked as changed and are bounded by max_rows: trying again later loses nothing.
      if (!this.#isFailing)
        log.error("memory rows could not be written, trying again", {
          memory: model.name,
          error,
        });
      this.#isFailing = true;
      this.#planIn(WAIT_AFTER_FAILURE * config.flushMs);
    }
  }
}
