/** Many readers or one writer, first come first served: a stream of searches cannot keep a write out. */
export class ReadWriteGate {
  #readers = 0;
  #writing = false;
  readonly #waiting: {
    readonly writes: boolean;
    readonly start: () => void;
  }[] = [];

  /** Runs beside other readers. */
  async read<Result>(action: () => Promise<Result>): Promise<Result> {
    await this.#enter(false);
    try {
      return await action();
    } finally {
      this.#readers--;
      this.#admit();
    }
  }

  /** Runs alone. */
  async write<Result>(action: () => Promise<Result>): Promise<Result> {
    await this.#enter(true);
    try {
      return await action();
    } finally {
      this.#writing = false;
      this.#admit();
    }
  }

  async #enter(writes: boolean): Promise<void> {
    await new Promise<void>((start) => {
      this.#waiting.push({ writes, start });
      this.#admit();
    });
  }

  #admit(): void {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || this.#writing) return;
      if (next.writes && this.#readers > 0) return;
      this.#waiting.shift();
      if (next.writes) this.#writing = true;
      else this.#readers++;
      next.start();
    }
  }
}
