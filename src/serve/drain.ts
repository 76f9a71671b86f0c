/** Counts the calls under way, so that a server can end as soon as the last one is answered. */
export class CallCounter {
  #count = 0;
  readonly #waiting: (() => void)[] = [];

  /** Calls under way now. */
  get count(): number {
    return this.#count;
  }

  /** @returns  to be called once, when the call has been answered */
  enter(): () => void {
    this.#count++;
    let isLeft = false;
    return () => {
      if (isLeft) return;
      isLeft = true;
      this.#count--;
      if (this.#count === 0)
        for (const resolve of this.#waiting.splice(0)) resolve();
    };
  }

  /** Resolves when no call is under way. */
  idle(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
