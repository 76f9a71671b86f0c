import { randomFillSync } from "node:crypto";

import { monotonicFactory } from "ulid";

import type { Clock } from "./clock.js";

const pool = new Uint32Array(1024);
let used = pool.length;

/** Random numbers of the system's source, asked for a thousand at a time: one by one they cost more than a write. */
function fraction(): number {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool[used++] / 2 ** 32;
}

/**
 * Makes ids that nobody chooses: ULIDs, which sort by the time they were made and rise within a millisecond.
 *
 * @returns a maker of ids, 26 characters of Crockford's base 32
 */
export function idMaker(clock: Clock): () => string {
  const ulid = monotonicFactory(fraction);
  return () => ulid(clock.now());
}
