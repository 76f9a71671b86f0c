import type { Postgres } from "#core/postgres";
import { Places } from "#index/places";
import { locks } from "#index/scaled-schema";
import { Lanes, untilAborted, type InTurn } from "./lanes.js";

/** Work that must be done one after another, by name, whichever server of a deployment does it. */
export class SharedLanes implements InTurn {
  readonly #postgres: Postgres;
  readonly #own = new Lanes();
  /** Each work holds a connection and needs another for what it does. */
  readonly #places: Places;

  constructor(postgres: Postgres) {
    this.#postgres = postgres;
    this.#places = new Places(
      Math.max(1, Math.floor(postgres.connections / 4)),
    );
  }

  inTurn<Result>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result> {
    return this.#own.inTurn(name, signal, () =>
      this.#places.hold(() => this.#locked(name, signal, work), signal),
    );
  }

  /** The lock is the connection's: it is free again when this server dies. */
  #locked<Result>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result> {
    const keys = [locks.decide, name];
    return this.#postgres.session(async (session) => {
      const locked = session.query(
        "SELECT pg_advisory_lock($1, hashtext($2))",
        keys,
      );
      try {
        await untilAborted(locked, signal);
        return await work();
      } finally {
        await locked.catch(() => undefined);
        await session
          .query("SELECT pg_advisory_unlock($1, hashtext($2))", keys)
          .catch(() => undefined);
      }
    });
  }
}
