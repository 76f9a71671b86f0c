import type { Log } from "#core/log";
import type { Postgres, Session } from "#core/postgres";

import type { Milvus } from "./milvus.js";
import { Rounds } from "./rounds.js";
import { whileHeld, type SearchGate } from "./scaled-gate.js";
import {
  collectionOf,
  livingCollections,
  type ScaledRecord,
} from "./scaled-records.js";

const entriesDroppedAtOnce = 1000;

/** What the collections of a deployment need. */
export interface CollectionsOptions {
  readonly postgres: Postgres;
  readonly milvus: Milvus;
  readonly deployment: string;
  readonly gate: SearchGate;
  readonly log: Pick<Log, "warn">;
}

/** The collections of all galleries: filled again where they are gone, dropped when nobody needs them. */
export class ScaledCollections {
  readonly #postgres: Postgres;
  readonly #milvus: Milvus;
  readonly #deployment: string;
  readonly #gate: SearchGate;
  readonly #log: Pick<Log, "warn">;
  /** One at a time, whoever asks: each holds a connection while it waits for Milvus, which may hang. */
  readonly #sweeps = new Rounds(() => this.#sweep());

  constructor(options: CollectionsOptions) {
    this.#postgres = options.postgres;
    this.#milvus = options.milvus;
    this.#deployment = options.deployment;
    this.#gate = options.gate;
    this.#log = options.log;
  }

  /**
   * Removes what deleted and rebuilt galleries have left, and what was forgotten from the rest: all that was so
   * before the call.
   *
   * @throws {MilvusUnavailableError} @throws {DatabaseUnavailableError}
   */
  sweep(): Promise<void> {
    return this.#sweeps.ask();
  }

  async #sweep(): Promise<void> {
    const dropped = await this.#postgres.query<{ gallery: number }>(
      "SELECT gallery FROM dropped",
    );
    for (const { gallery } of dropped) await this.#drop(gallery);
    const collections = await this.#postgres.query<{
      name: string;
      gallery: number;
    }>("SELECT name, gallery FROM dropped_collections");
    for (const { name, gallery } of collections)
      await this.#dropCollection(name, gallery);
    await this.#compactForgotten();
  }

  /**
   * Fills a gallery's collection again where it is gone from Milvus, or holds less than it was given: PostgreSQL has
   * everything that belongs into it.
   *
   * Until it is full its entries are compared one by one, so that no search misses one.
   *
   * @throws {MilvusUnavailableError}
   */
  heal(number: number): Promise<void> {
    return whileHeld(this.#postgres, number, async (session) => {
      const record = await recordOf(session, number);
      if (record === undefined) return;
      const { generation, index, dimension, name } = record;
      const collection = collectionOf(this.#deployment, number, generation);
      const isThere = await this.#milvus.has(collection);
      if (isThere) await this.#milvus.ensure(collection, index, dimension);
      const held = isThere ? await this.#milvus.count(collection) : 0;
      const given = await givenTo(session, number);
      if (!isThere || held < given) {
        const what = isThere ? "lacks entries in" : "is gone from";
        this.#log.warn(`a collection ${what} Milvus: filling it again`, {
          ...{ gallery: name, held, given },
        });
        // First: a server that dies here leaves a gallery that is searched exactly, not one without entries.
        await session.query(
          "INSERT INTO outbox (gallery, sequence, removed) SELECT gallery, sequence, FALSE FROM entries WHERE gallery = $1 ON CONFLICT DO NOTHING",
          [number],
        );
      }
      if (!isThere) await this.#milvus.ensure(collection, index, dimension);
    });
  }

  /** A collection that a rebuild has replaced: searches that began before it may still be in it. */
  #dropCollection(name: string, gallery: number): Promise<void> {
    return this.#postgres.session(async (session) => {
      if (!(await this.#gate.close(session, gallery))) return;
      try {
        await this.#milvus.drop(name);
      } finally {
        await this.#gate.open(session, gallery);
      }
      await session.query("DELETE FROM dropped_collections WHERE name = $1", [
        name,
      ]);
    });
  }

  /** Has Milvus rewrite what still holds forgotten vectors, once their removal has come to it. */
  async #compactForgotten(): Promise<void> {
    const due = await this.#postgres.query<{
      gallery: number;
      sequence: number;
      record: ScaledRecord | null;
    }>(
      `SELECT f.gallery, f.sequence, g.record FROM forgotten_vectors AS f
       LEFT JOIN galleries AS g ON g.number = f.gallery
       WHERE NOT EXISTS (
         SELECT 1 FROM outbox AS o WHERE o.gallery = f.gallery AND o.removed AND o.sequence <= f.sequence
       )`,
    );
    for (const { gallery, sequence, record } of due) {
      if (record !== null)
        for (const one of livingCollections(this.#deployment, gallery, record))
          await this.#milvus.compact(one);
      await this.#postgres.query(
        "DELETE FROM forgotten_vectors WHERE gallery = $1 AND sequence = $2",
        [gallery, sequence],
      );
    }
  }

  /** Entries of a deleted gallery; its first collection too, which older servers have not noted. */
  #drop(number: number): Promise<void> {
    // Whoever is just making the collection anew would leave one that nobody drops.
    return whileHeld(this.#postgres, number, () => this.#dropHeld(number));
  }

  async #dropHeld(number: number): Promise<void> {
    await this.#milvus.drop(collectionOf(this.#deployment, number));
    for (const table of ["entries", "outbox", "identities"])
      for (;;) {
        const rows = await this.#postgres.query(
          `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM ${table} WHERE gallery = $1 LIMIT $2
           )) RETURNING 1`,
          [number, entriesDroppedAtOnce],
        );
        if (rows.length === 0) break;
      }
    await this.#postgres.query("DELETE FROM dropped WHERE gallery = $1", [
      number,
    ]);
  }
}

/** A gallery's record as it stands; undefined: it was deleted. */
export async function recordOf(
  session: Session,
  number: number,
): Promise<ScaledRecord | undefined> {
  const [gallery] = await session.query<{ record: ScaledRecord }>(
    "SELECT record FROM galleries WHERE number = $1",
    [number],
  );
  return gallery?.record;
}

/** Entries that a gallery's collection has to hold: those that do not wait for their way to it. */
async function givenTo(session: Session, number: number): Promise<number> {
  const [{ given }] = await session.query<{ given: number }>(
    `SELECT (record ->> 'entryCount')::bigint - (
       SELECT count(*) FROM outbox WHERE gallery = number AND NOT removed
     ) AS given FROM galleries WHERE number = $1`,
    [number],
  );
  return given;
}
