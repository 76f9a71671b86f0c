/** Work that must be done one after another, by name: names do not wait for each other. */
export class Lanes {
  readonly #last = new Map<string, Promise<void>>();

  /**
   * Does work when all that came before under its name is done.
   *
   * @param signal  leaves the lane at once where the work has not begun; its reason is thrown
   */
  async inTurn<Result>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result> {
    signal.throwIfAborted();
    const before = this.#last.get(name);
    let leave: () => void = () => undefined;
    const done = new Promise<void>((resolve) => (leave = resolve));
    const turn = (before ?? Promise.resolve()).then(() => done);
    this.#last.set(name, turn);
    void turn.then(() => {
      if (this.#last.get(name) === turn) this.#last.delete(name);
    });
    try {
      if (before !== undefined) await untilAborted(before, signal);
      return await work();
    } finally {
      leave();
    }
  }
}

async function untilAborted(
  turn: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let stop: () => void = () => undefined;
  const aborted = new Promise<void>((resolve) => (stop = resolve));
  signal.addEventListener("abort", stop, { once: true });
  try {
    await Promise.race([turn, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
  signal.throwIfAborted();
}
