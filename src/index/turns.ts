import { setImmediate } from "node:timers/promises";

/** Rows looked at before other work gets its turn: well under a millisecond. */
const rowsAtOnce = 4096;

/** Counts rows, and lets other work have its turn after so many. */
export class Turns {
  readonly #atOnce: number;
  #looked = 0;

  /** @param atOnce  rows of one turn; fewer where looking at one costs more than a field */
  constructor(atOnce = rowsAtOnce) {
    this.#atOnce = atOnce;
  }

  /** Whether it is time to wait for {@link next}; counts a row. */
  get isOver(): boolean {
    this.#looked += 1;
    return this.#looked % this.#atOnce === 0;
  }

  next(): Promise<void> {
    return setImmediate();
  }
}
