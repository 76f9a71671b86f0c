import type { Postgres } from "#core/postgres";
import { locks } from "#index/scaled-schema";
import { Lanes, untilAborted, type InTurn } from "./lanes.js";

/** Work that must be done one after another, by name, whichever server of a deployment does it. */
export class SharedLanes implements InTurn {
  readonly #postgres: Postgres;
  readonly #own = new Lanes();
  /** Works at once: each holds a connection and needs another for what it does. */
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #busy = 0;

  /** @param connections  of the pool */
  constructor(postgres: Postgres, connections: number) {
    this.#postgres = postgres;
    this.#most = Math.max(1, Math.floor(connections / 4));
  }

  inTurn<Result>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result> {
    return this.#own.inTurn(name, signal, async () => {
      await this.#enter();
      try {
        return await this.#locked(name, signal, work);
      } finally {
        this.#busy--;
        this.#waiting.shift()?.();
      }
    });
  }

  async #enter(): Promise<void> {
    while (this.#busy >= this.#most)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#busy++;
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
