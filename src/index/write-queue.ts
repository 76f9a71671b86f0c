import type { Writer } from "#core/store";

import type { GalleryDraft } from "./gallery-draft.js";

/** A write that waits for its transaction. */
export interface PendingWrite {
  /** How much of a transaction it takes. */
  readonly items: number;
  /** Plans it over what the transaction holds so far; a failure fails the transaction. */
  plan(draft: GalleryDraft): Promise<void>;
  /** Puts what belongs to it into the transaction. */
  inTransaction(writer: Writer): void;
}

interface Queued<Write> {
  readonly write: Write | undefined;
  /** Instead of a write: runs while no write is under way. */
  readonly alone: (() => Promise<void>) | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

// One transaction takes what has queued up behind the last: enrollments of several calls share a flush.
const itemsInTransaction = 1024;

// Of the last transaction's time, waited for others to join the next.
const companyShare = 0.25;

/** The writes of a gallery, one transaction after another; those that wait together share one. */
export class WriteQueue<
  Write extends Pick<PendingWrite, "items"> = PendingWrite,
> {
  readonly #commit: (writes: readonly Write[]) => Promise<void>;
  readonly #queue: Queued<Write>[] = [];
  #running: Promise<void> | undefined;
  /** The last transaction, also where the queue was empty since. */
  #last = { writes: 1, durationMs: 0, endedAt: -Infinity };
  /** Told at every write that joins the queue while the next transaction waits for company. */
  #joined: (() => void) | undefined;

  /** @param commit  makes one transaction of writes; resolves when it is durable and seen by reads */
  constructor(commit: (writes: readonly Write[]) => Promise<void>) {
    this.#commit = commit;
  }

  /** Resolves when the write's transaction is durable; rejects, as its neighbours do, with what it failed of. */
  write(write: Write): Promise<void> {
    return this.#enqueue(write, undefined);
  }

  /** Runs an action while no write is under way; those that come meanwhile wait. */
  alone(action: () => Promise<void>): Promise<void> {
    return this.#enqueue(undefined, action);
  }

  /** Waits for what is queued now; never rejects. */
  async idle(): Promise<void> {
    await this.#running;
  }

  #enqueue(
    write: Write | undefined,
    alone: (() => Promise<void>) | undefined,
  ): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#queue.push({ write, alone, resolve, reject });
      this.#joined?.();
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined;
      });
    });
  }

  async #run(): Promise<void> {
    // Calls of the same turn share the transaction.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      await this.#company();
      const group = this.#takeGroup();
      const alone = group[0]?.alone;
      const started = performance.now();
      try {
        if (alone !== undefined) await alone();
        else
          await this.#commit(
            group.flatMap(({ write }) => (write === undefined ? [] : [write])),
          );
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
      const endedAt = performance.now();
      this.#last = {
        writes: group.length,
        durationMs: endedAt - started,
        endedAt,
      };
    }
  }

  /**
   * Waits a little for as many writes as shared the last transaction: their callers have just been answered, and
   * mostly write again. Without it the first of them gets a flush of its own and the others wait through it.
   */
  async #company(): Promise<void> {
    const last = this.#last;
    // Whoever was answered longer ago than that is not about to come.
    if (performance.now() - last.endedAt > last.durationMs) return;
    const isEnough = () =>
      this.#queue.length >= last.writes ||
      this.#queue.some(({ alone }) => alone !== undefined);
    if (isEnough()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, last.durationMs * companyShare);
      this.#joined = () => {
        if (!isEnough()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#joined = undefined;
  }

  /**
   * What shares the next transaction: half of those who write at present.
   *
   * While it is flushed the other half is answered, and writes again. All together would find the processor idle
   * during the flush and the disk idle after it; and they part into one and all others, by whoever comes first.
   */
  #takeGroup(): Queued<Write>[] {
    const group: Queued<Write>[] = [];
    const half = Math.ceil((this.#last.writes + this.#queue.length) / 2);
    let items = 0;
    for (;;) {
      const next = this.#queue[0];
      if (next === undefined) return group;
      items += next.write?.items ?? itemsInTransaction;
      const isFull =
        items > itemsInTransaction ||
        group.length >= half ||
        next.alone !== undefined;
      if (group.length > 0 && isFull) return group;
      group.push(next);
      this.#queue.shift();
      if (next.alone !== undefined) return group;
    }
  }
}
