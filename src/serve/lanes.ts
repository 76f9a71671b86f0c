/** Work that must be done one after another, by name: names do not wait for each other. */
export interface InTurn {
  /**
   * Does work when all that came before under its name is done.
   *
   * @param signal  leaves the lane where the work has not begun; its reason is thrown
   */
  inTurn<Result>(
    name: string,
    signal: AbortSignal,
    work: () => Promise<Result>,
  ): Promise<Result>;
}

/** Lanes of one server. */
export class Lanes implements InTurn {
  readonly #last = new Map<string, Promise<void>>();

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

/** Waits for a turn, or for the signal: its reason is thrown. */
export async function untilAborted(
  turn: Promise<unknown>,
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
