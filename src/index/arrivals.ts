/** Over which a rate is taken, ms. */
const overMs = 100;

/** How many entries have come of late: those of the last tenth of a second, older ones fading; after so long a silence none. */
export class Arrivals {
  #count = 0;
  #at = 0;

  /** Counts entries that come now. @param nowMs  of a monotonic clock */
  add(entries: number, nowMs: number): void {
    this.#count = this.#faded(nowMs) + entries;
    this.#at = nowMs;
  }

  /** Entries a second. @param nowMs  of the same clock */
  rate(nowMs: number): number {
    return (this.#faded(nowMs) * 1000) / overMs;
  }

  #faded(nowMs: number): number {
    const silentMs = nowMs - this.#at;
    return silentMs < overMs ? this.#count * Math.exp(-silentMs / overMs) : 0;
  }
}
