/** Rounds of one work, one at a time: each serves everybody who asked before it began. */
export class Rounds {
  readonly #work: () => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  /** The round behind the one that runs, where somebody waits for it. */
  #next: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /**
   * Waits for a round that begins after this call; who asked earlier goes on earlier.
   *
   * @throws what the round throws
   */
  ask(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        this.#running = this.#work();
        return this.#running;
      });
    return this.#next;
  }
}
