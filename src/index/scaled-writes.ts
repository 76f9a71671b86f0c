import type { Session } from "#core/postgres";
import type { Writer } from "#core/store";

import type { InTransaction } from "./gallery-types.js";
import {
  addRows,
  countIdentities,
  lockGallery,
  noteInOutbox,
  presentEntries,
  putRecord,
  removeRows,
} from "./scaled-commit.js";
import type { ScaledContext } from "./scaled-context.js";
import { identityChanges, ScaledDraft } from "./scaled-draft.js";
import { RequestTakenError } from "./scaled-errors.js";
import type { ScaledRecord } from "./scaled-records.js";
import { takenFrom } from "./scaled-requests.js";
import { SqlWriter } from "./scaled-writer.js";
import { WriteQueue } from "./write-queue.js";

/** Entries deleted in one transaction because their time is over. */
const expiredAtOnce = 1000;

/** One write that waits for its transaction. */
interface ScaledWrite {
  readonly items: number;
  /** Entries that it names. */
  readonly entryIds: readonly string[];
  plan(draft: ScaledDraft, session: Session): Promise<void>;
  inTransaction(writer: Writer): void;
  /** Told where it alone of its transaction could not be made. */
  fail(error: unknown): void;
}

/** The writes of one gallery from this server; those of other servers take turns with them in PostgreSQL. */
export class ScaledWrites {
  readonly #context: ScaledContext;
  readonly #gallery: {
    readonly number: number;
    readonly name: string;
    readonly onCommitted: (record: ScaledRecord) => void;
  };
  readonly #queue = new WriteQueue<ScaledWrite>((writes) =>
    this.#commit(writes),
  );

  /** @param gallery  told of its record after each commit of this server */
  constructor(
    context: ScaledContext,
    gallery: {
      readonly number: number;
      readonly name: string;
      readonly onCommitted: (record: ScaledRecord) => void;
    },
  ) {
    this.#context = context;
    this.#gallery = gallery;
  }

  /**
   * A write that shares its transaction with those that wait beside it; durable when it resolves.
   *
   * @param entryIds  that it names: the draft knows what is there under them
   */
  async write<Outcome>(
    entryIds: readonly string[],
    plan: (draft: ScaledDraft) => Outcome,
    within: InTransaction<Outcome> | undefined,
  ): Promise<Outcome> {
    const one = this.#pending(entryIds, async (draft) => plan(draft), within);
    await this.#queue.write(one.write);
    return one.outcome();
  }

  /** A write with a transaction to itself. */
  async alone<Outcome>(
    plan: (draft: ScaledDraft, session: Session) => Promise<Outcome>,
    within: InTransaction<Outcome> | undefined,
  ): Promise<Outcome> {
    const one = this.#pending([], plan, within);
    await this.#queue.alone(() => this.#commitTogether([one.write]));
    return one.outcome();
  }

  /** Waits for the writes under way; never rejects. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  #pending<Outcome>(
    entryIds: readonly string[],
    plan: (draft: ScaledDraft, session: Session) => Promise<Outcome>,
    within: InTransaction<Outcome> | undefined,
  ): { readonly write: ScaledWrite; readonly outcome: () => Outcome } {
    let outcome: Outcome;
    let failure: { readonly error: unknown } | undefined;
    return {
      write: {
        items: Math.max(1, entryIds.length),
        entryIds,
        plan: async (draft, session) => {
          outcome = await plan(draft, session);
        },
        inTransaction: (writer) => within?.(writer, outcome),
        fail: (error) => (failure = { error }),
      },
      outcome: () => {
        if (failure !== undefined) throw failure.error;
        return outcome;
      },
    };
  }

  async #commit(writes: readonly ScaledWrite[]): Promise<void> {
    try {
      await this.#commitTogether(writes);
    } catch (error) {
      // One of them has been made by another server: it must not take its neighbours along.
      if (!(error instanceof RequestTakenError) || writes.length === 1)
        throw error;
      for (const write of writes)
        await this.#commitTogether([write]).catch((own: unknown) =>
          write.fail(own),
        );
    }
  }

  async #commitTogether(writes: readonly ScaledWrite[]): Promise<void> {
    const { postgres, outbox, clock, onExpire } = this.#context;
    const { number, name, onCommitted } = this.#gallery;
    const nowUs = Math.round(clock.now() * 1000);
    const { draft, expired } = await postgres.transaction(async (session) => {
      const record = await lockGallery(session, this.#gallery);
      const over = await session.query<{
        entryId: string;
        sequence: number;
        identity: string;
      }>(
        `SELECT entry_id AS "entryId", sequence, identity FROM entries
         WHERE gallery = $1 AND expires_at_us <= $2 ORDER BY sequence LIMIT $3`,
        [number, nowUs, expiredAtOnce],
      );
      const present = await presentEntries(
        session,
        number,
        writes.flatMap(({ entryIds }) => entryIds),
      );
      const made = new ScaledDraft(record, present, nowUs);
      made.remove(over);
      for (const write of writes) await write.plan(made, session);
      await this.#put(session, made, record);
      const writer = new SqlWriter();
      for (const write of writes) write.inTransaction(writer);
      await writer.run(session).catch(takenFrom);
      return { draft: made, expired: over.length };
    });
    onCommitted(draft.record);
    if (expired > 0) onExpire(name, expired);
    if (draft.added.size + draft.removed.size > 0) outbox.wake(number);
  }

  async #put(
    session: Session,
    draft: ScaledDraft,
    before: ScaledRecord,
  ): Promise<void> {
    const { number } = this.#gallery;
    await removeRows(session, number, [...draft.removed.keys()]);
    const added = [...draft.added.values()];
    await addRows(session, number, added);
    await noteInOutbox(session, number, {
      sequences: [...draft.added.keys(), ...draft.moved.keys()],
      removed: false,
    });
    const more = await countIdentities(
      session,
      number,
      identityChanges(
        [...added.map(({ identity }) => identity), ...draft.moved.values()],
        draft.removed.values(),
      ),
    );
    draft.change((record) => ({
      ...record,
      identityCount: record.identityCount + more,
    }));
    if (JSON.stringify(draft.record) === JSON.stringify(before)) return;
    const written = await putRecord(session, number, draft.record);
    draft.change(() => written);
  }
}
