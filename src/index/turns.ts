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
    return this.count(1);
  }

  /** The same after several rows. */
  count(rows: number): boolean {
    this.#looked += rows;
    if (this.#looked < this.#atOnce) return false;
    this.#looked = 0;
    return true;
  }

  next(): Promise<void> {
    return setImmediate();
  }
}
