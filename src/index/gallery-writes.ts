import type { ReidError } from "#core/errors";

import type { GalleryContext } from "./gallery-context.js";
import { GalleryDraft } from "./gallery-draft.js";
import type { GalleryIndex } from "./gallery-index.js";
import type { GalleryRecord } from "./gallery-records.js";
import type { GalleryRows } from "./gallery-rows.js";
import type { InTransaction } from "./gallery-types.js";
import { ReadWriteGate } from "./read-write-gate.js";
import { WriteQueue, type PendingWrite } from "./write-queue.js";

/** What a gallery's writes work on. */
export interface GalleryWritesOptions {
  readonly context: GalleryContext;
  readonly rows: GalleryRows;
  readonly index: GalleryIndex;
  /** Why it takes no more writes; undefined: it does. Asked as each comes. */
  readonly refusal: () => ReidError | undefined;
  /** Why what has come already is not written any more. */
  readonly dismissal: () => ReidError | undefined;
  /** Told after each transaction. */
  readonly onCommit: () => void;
}

/** The writes of a gallery: planned in order, durable, then seen by reads whole or not at all. */
export class GalleryWrites {
  readonly #options: GalleryWritesOptions;
  readonly #gate = new ReadWriteGate();
  readonly #queue = new WriteQueue((writes) => this.#commit(writes));
  #record: GalleryRecord;

  constructor(record: GalleryRecord, options: GalleryWritesOptions) {
    this.#record = record;
    this.#options = options;
  }

  /** Of the last write that reads see. */
  get record(): GalleryRecord {
    return this.#record;
  }

  /** Puts a record in place that has been written otherwise; within `alone`, or before the first write. */
  set record(record: GalleryRecord) {
    this.#record = record;
  }

  /** Runs a read over one state of the gallery: no write becomes visible before it is done. */
  read<Result>(action: () => Promise<Result>): Promise<Result> {
    return this.#gate.read(action);
  }

  /** Runs what no read may be beside. */
  exclusive(action: () => Promise<void>): Promise<void> {
    return this.#gate.write(action);
  }

  /** Runs an action while no write is under way; those that come meanwhile wait. */
  alone<Result>(action: () => Promise<Result>): Promise<Result> {
    let result: Result;
    return this.#queue
      .alone(async () => {
        result = await action();
      })
      .then(() => result);
  }

  /** Waits for what is queued now; never rejects. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  /**
   * Plans a write into the next transaction; resolves when it is on disk and seen by reads.
   *
   * @param items  how much of a transaction it takes
   * @param inTransaction  puts what belongs to it into the transaction
   * @throws what `refusal` says, and as `Store.write`
   */
  async write<Outcome>(
    items: number,
    plan: (draft: GalleryDraft) => Outcome | Promise<Outcome>,
    inTransaction: InTransaction<Outcome> | undefined,
  ): Promise<Outcome> {
    // It may have been closed or deleted while the caller waited for room.
    this.#assertWelcome();
    let outcome: Outcome;
    return this.#queue
      .write({
        items,
        plan: async (draft) => {
          outcome = await plan(draft);
        },
        inTransaction: (writer) => inTransaction?.(writer, outcome),
      })
      .then(() => outcome);
  }

  /** Changes the record between two writes. */
  async changeRecord(
    change: (record: GalleryRecord) => GalleryRecord,
  ): Promise<void> {
    const { store, tables } = this.#options.context;
    await this.#queue.alone(async () => {
      this.#assertWelcome();
      const record = change(this.#record);
      await store.write((writer) => {
        writer.put(tables.galleries, record.name, record);
      });
      this.#record = record;
    });
  }

  async #commit(group: readonly PendingWrite[]): Promise<void> {
    const { rows, index, context, onCommit } = this.#options;
    const { store, tables, newEntryId, onExpire, clock } = context;
    const dismissal = this.#options.dismissal();
    if (dismissal !== undefined) throw dismissal;
    const nowUs = Math.round(clock.now() * 1000);
    const draft = new GalleryDraft(rows, this.#record, {
      nowUs,
      newEntryId,
      expectedCount: group.reduce((sum, { items }) => sum + items, 0),
    });
    const expired = await draft.sweep();
    for (const write of group) await write.plan(draft);
    await store.write(async (writer) => {
      await draft.write(writer, tables);
      for (const write of group) write.inTransaction(writer);
    });
    if (expired > 0) onExpire(this.#record.name, expired);
    // From here on it is durable; searches see it whole or not at all.
    await this.#gate.write(async () => {
      this.#record = draft.record;
      const { added, features, removed } = await draft.apply();
      await index.remove(removed);
      await index.append(added, features);
    });
    onCommit();
  }

  #assertWelcome(): void {
    const refusal = this.#options.refusal();
    if (refusal !== undefined) throw refusal;
  }
}
