import { setTimeout as delay } from "node:timers/promises";

import { ReidError } from "#core/errors";
import type { Log } from "#core/log";
import type { Postgres, Session } from "#core/postgres";

import type { Milvus } from "./milvus.js";
import { Places } from "./places.js";
import {
  livingCollections,
  milvusColumns,
  milvusRowFrom,
  type EntryRow,
} from "./scaled-records.js";
import { recordOf, type ScaledCollections } from "./scaled-collections.js";
import { MilvusUnavailableError } from "./scaled-errors.js";
import type { SearchGate } from "./scaled-gate.js";
import { locks } from "./scaled-schema.js";
import { whileWanted } from "./while-wanted.js";

/** Bytes of features brought to Milvus in one call: below the 64 MiB that it takes, well below what it likes. */
const bytesAtOnce = 4 * 1024 * 1024;
const removedAtOnce = 5000;
const pollMs = 20;
/** So long writes wait for a Milvus that takes nothing, once the tail is full. */
const patienceMs = 5000;
/** Of the connections, one in so many may wait for Milvus with what it is brought. */
const connectionShare = 8;

/** Attempts that failed, one after another. */
interface MilvusFailure {
  /** When the first of them ended, and the last. */
  readonly firstMs: number;
  readonly lastMs: number;
  readonly error: MilvusUnavailableError;
}

/**
 * Brings what was committed in PostgreSQL to Milvus: any server can, one at a time for each gallery.
 *
 * Vectors come and go under their entries' sequences, so doing it twice changes nothing: a server that dies in between
 * leaves the rest, or some of it once more, to the others.
 */
export class ScaledOutbox {
  readonly #postgres: Postgres;
  readonly #milvus: Milvus;
  readonly #deployment: string;
  readonly #log: Pick<Log, "warn">;
  readonly #wanted = new Set<number>();
  readonly #running = new Map<number, Promise<void>>();
  readonly #collections: ScaledCollections;
  readonly #gate: SearchGate;
  /** Galleries whose collections may be gone. */
  readonly #suspected = new Set<number>();
  /** By gallery: since when Milvus takes nothing, and what it said last. */
  readonly #failures = new Map<number, MilvusFailure>();
  readonly #places: Places;
  #isClosed = false;

  constructor(of: {
    readonly postgres: Postgres;
    readonly milvus: Milvus;
    readonly deployment: string;
    readonly collections: ScaledCollections;
    readonly gate: SearchGate;
    readonly log: Pick<Log, "warn">;
  }) {
    this.#postgres = of.postgres;
    this.#milvus = of.milvus;
    this.#deployment = of.deployment;
    this.#collections = of.collections;
    this.#gate = of.gate;
    this.#log = of.log;
    this.#places = new Places(
      Math.max(1, Math.floor(of.postgres.connections / connectionShare)),
    );
  }

  /** Drains a gallery soon; what fails is tried again by the next {@link wakeAll} of any server. */
  wake(number: number): void {
    if (this.#isClosed) return;
    this.#wanted.add(number);
    if (this.#running.has(number)) return;
    const running = this.#run(number).finally(() =>
      this.#running.delete(number),
    );
    this.#running.set(number, running);
  }

  /** Wakes every gallery with something left, such as by a server that died. */
  async wakeAll(): Promise<void> {
    if (this.#isClosed) return;
    const waiting = await this.#postgres.query<{ gallery: number }>(
      "SELECT number AS gallery FROM galleries WHERE EXISTS (SELECT 1 FROM outbox WHERE gallery = number)",
    );
    for (const { gallery } of waiting) this.wake(gallery);
  }

  /** Looks soon whether a gallery's collection is still there: a call that used it has failed. */
  suspect(number: number): void {
    this.#suspected.add(number);
    this.wake(number);
  }

  /**
   * Waits until Milvus has every entry of a gallery up to a sequence.
   *
   * @throws {SearchCancelledError} the signal fired
   */
  async settled(
    number: number,
    sequence: number,
    signal?: AbortSignal,
  ): Promise<void> {
    for (;;) {
      const [left] = await this.#postgres.query(
        "SELECT 1 FROM outbox WHERE gallery = $1 AND sequence <= $2 LIMIT 1",
        [number, sequence],
      );
      if (left === undefined) return;
      this.wake(number);
      await whileWanted(delay(pollMs), signal);
    }
  }

  /**
   * What Milvus says, where it has taken nothing of a gallery for some seconds; undefined: it takes what it is brought.
   *
   * @param askedMs  an attempt that ended before does not count, ms as `performance.now` gives them
   */
  refusal(number: number, askedMs: number): MilvusUnavailableError | undefined {
    const failure = this.#failures.get(number);
    if (failure === undefined || failure.lastMs < askedMs) return undefined;
    const isLasting = failure.lastMs - failure.firstMs >= patienceMs;
    return isLasting ? failure.error : undefined;
  }

  /** Stops, after what is under way; idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#running.values());
  }

  async #run(number: number): Promise<void> {
    try {
      while (this.#wanted.delete(number) && !this.#isClosed) {
        const isMore = await this.#places.hold(() => this.#bring(number));
        this.#failures.delete(number);
        if (isMore) this.#wanted.add(number);
      }
    } catch (error) {
      if (!(error instanceof ReidError)) throw error;
      // The next attempt looks whether the collection is still there before it tries again.
      if (error instanceof MilvusUnavailableError) {
        this.#suspected.add(number);
        const lastMs = performance.now();
        const { firstMs = lastMs } = this.#failures.get(number) ?? {};
        this.#failures.set(number, { firstMs, lastMs, error });
      }
      this.#log.warn(
        "entries wait for Milvus, searches compare them one by one",
        {
          error,
        },
      );
    }
  }

  /** @returns whether there is more to do now */
  async #bring(number: number): Promise<boolean> {
    if (this.#suspected.has(number)) {
      await this.#collections.heal(number);
      this.#suspected.delete(number);
    }
    return this.#drain(number);
  }

  /** @returns whether there is more to do now */
  #drain(number: number): Promise<boolean> {
    return this.#postgres.session(async (session) => {
      const [{ locked }] = await session.query<{ locked: boolean }>(
        "SELECT pg_try_advisory_lock($1, $2) AS locked",
        [locks.drain, number],
      );
      // Another server is at it.
      if (!locked) return false;
      try {
        const added = await this.#add(session, number);
        const removed = await this.#remove(session, number);
        return added || removed;
      } finally {
        await session.query("SELECT pg_advisory_unlock($1, $2)", [
          locks.drain,
          number,
        ]);
      }
    });
  }

  async #add(session: Session, number: number): Promise<boolean> {
    const record = await recordOf(session, number);
    if (record === undefined) return false;
    const limit = rowsOfCall(record.dimension);
    const waiting = await session.query<{ sequence: number }>(
      "SELECT sequence FROM outbox WHERE gallery = $1 AND NOT removed ORDER BY sequence LIMIT $2",
      [number, limit],
    );
    if (waiting.length === 0) return false;
    const sequences = waiting.map(({ sequence }) => sequence);
    // What was replaced or deleted meanwhile is not there any more, and need not come.
    const rows = await session.query<EntryRow>(
      `SELECT ${milvusColumns} FROM entries WHERE gallery = $1 AND sequence = ANY ($2::bigint[])`,
      [number, sequences],
    );
    for (const one of livingCollections(this.#deployment, number, record))
      await this.#milvus.upsert(one, rows.map(milvusRowFrom));
    await session.query(
      "DELETE FROM outbox WHERE gallery = $1 AND NOT removed AND sequence = ANY ($2::bigint[])",
      [number, sequences],
    );
    return sequences.length === limit;
  }

  /**
   * Removals wait for the searches under way: one that still sees an entry must find its vector.
   *
   * @returns whether there is more to do now
   */
  async #remove(session: Session, number: number): Promise<boolean> {
    const waiting = await session.query<{ sequence: number }>(
      "SELECT sequence FROM outbox WHERE gallery = $1 AND removed ORDER BY sequence LIMIT $2",
      [number, removedAtOnce],
    );
    if (waiting.length === 0) return false;
    const record = await recordOf(session, number);
    if (record === undefined) return false;
    if (!(await this.#gate.close(session, number))) {
      await delay(pollMs);
      return true;
    }
    const sequences = waiting.map(({ sequence }) => sequence);
    try {
      for (const one of livingCollections(this.#deployment, number, record))
        await this.#milvus.remove(one, sequences);
    } finally {
      await this.#gate.open(session, number);
    }
    await session.query(
      "DELETE FROM outbox WHERE gallery = $1 AND removed AND sequence = ANY ($2::bigint[])",
      [number, sequences],
    );
    return sequences.length === removedAtOnce;
  }
}

/** Entries that one call brings to Milvus. */
export function rowsOfCall(dimension: number): number {
  return Math.max(1, Math.floor(bytesAtOnce / (4 * dimension)));
}
