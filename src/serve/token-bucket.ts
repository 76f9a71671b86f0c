/** A bucket of calls: it holds a second's worth, at least one, and fills evenly. */
export class TokenBucket {
  #calls: number | undefined;
  #atMs = 0;

  /**
   * Takes one call out.
   *
   * @param perSecond  that the bucket fills with, > 0
   * @param nowMs      monotonic
   * @returns          ms until there is one again; 0: it was taken
   */
  take(perSecond: number, nowMs: number): number {
    const most = Math.max(1, perSecond);
    const filled = ((nowMs - this.#atMs) / 1000) * perSecond;
    const calls = Math.min(most, (this.#calls ?? most) + filled);
    this.#atMs = nowMs;
    // Sums of shares are a little off: what is all but one call counts as one.
    const isThere = calls > 1 - 1e-9;
    this.#calls = isThere ? calls - 1 : calls;
    return isThere
      ? 0
      : Math.max(1, Math.ceil(((1 - calls) / perSecond) * 1000));
  }
}
