import type { Postgres, Session } from "#core/postgres";

import { locks } from "./scaled-schema.js";

/** How long searches may hold off a removal before it waits in line for its turn. */
const triesBeforeWaiting = 20;

/** Between searches of a gallery, which share it, and those who take vectors from Milvus: a search that still sees an entry must find its vector. */
export class SearchGate {
  readonly #refusals = new Map<number, number>();

  /** @returns false: a search is in it, try again */
  async close(session: Session, number: number): Promise<boolean> {
    const keys = [locks.gate, number];
    const refusals = this.#refusals.get(number) ?? 0;
    if (refusals >= triesBeforeWaiting) {
      await session.query("SELECT pg_advisory_lock($1, $2)", keys);
      this.#refusals.delete(number);
      return true;
    }
    const [{ locked }] = await session.query<{ locked: boolean }>(
      "SELECT pg_try_advisory_lock($1, $2) AS locked",
      keys,
    );
    if (locked) this.#refusals.delete(number);
    else this.#refusals.set(number, refusals + 1);
    return locked;
  }

  /** Where the connection is gone the lock is too. */
  async open(session: Session, number: number): Promise<void> {
    await session
      .query("SELECT pg_advisory_unlock($1, $2)", [locks.gate, number])
      .catch(() => undefined);
  }
}

/**
 * Works on a gallery's collections while no server brings anything to them: it waits for its turn, others for it.
 *
 * @throws what the action throws
 */
export function whileHeld<Result>(
  postgres: Postgres,
  number: number,
  action: (session: Session) => Promise<Result>,
): Promise<Result> {
  const keys = [locks.drain, number];
  return postgres.session(async (session) => {
    await session.query("SELECT pg_advisory_lock($1, $2)", keys);
    try {
      return await action(session);
    } finally {
      await session
        .query("SELECT pg_advisory_unlock($1, $2)", keys)
        .catch(() => undefined);
    }
  });
}
