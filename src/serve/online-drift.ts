import { setImmediate } from "node:timers/promises";

/** Bins over [−1, 1]; crops remembered on each side; fewer are not enough. All from api.md 8. */
const BINS = 40;
const REMEMBERED = 2000;
const ENOUGH = 200;
/** Products computed before other work gets its turn: about a tenth of a millisecond. */
const PRODUCTS_AT_ONCE = 131_072;
/** Crops waiting to be compared; more are not looked at. */
const WAITING = 64;

/**
 * Watches how close crops come to their nearest prototype, before and after the last clustering.
 *
 * Crops that come faster than they can be compared are left out: it samples the traffic.
 */
export class DriftMonitor {
  #prototypes: readonly Float32Array[] = [];
  #before: number[] = [];
  #recent: number[] = [];
  readonly #waiting: Float32Array[] = [];
  #work: Promise<void> | undefined;

  /** Takes the prototypes of a new clustering, float32 [D] unit each; what was seen so far is "before". */
  setPrototypes(prototypes: readonly Float32Array[]): void {
    this.#before = this.#recent;
    this.#recent = [];
    this.#waiting.length = 0;
    this.#prototypes = prototypes;
  }

  /** Looks at one crop's feature, float32 [D] unit; copied. */
  offer(feature: Float32Array): void {
    if (this.#prototypes.length === 0 || this.#waiting.length >= WAITING)
      return;
    this.#waiting.push(feature.slice());
    this.#work ??= this.#compare().finally(() => {
      this.#work = undefined;
    });
  }

  /** In [0, 1], 0: the same; undefined with fewer than 200 crops on either side. */
  drift(): number | undefined {
    const isEnough =
      Math.min(this.#before.length, this.#recent.length) >= ENOUGH;
    return isEnough
      ? jensenShannonDistance(histogram(this.#before), histogram(this.#recent))
      : undefined;
  }

  /** Waits until the crops offered so far have been compared. */
  async settle(): Promise<void> {
    await this.#work;
  }

  async #compare(): Promise<void> {
    for (;;) {
      await setImmediate();
      const feature = this.#waiting.shift();
      if (feature === undefined) return;
      const prototypes = this.#prototypes;
      const similarity = await nearestSimilarity(prototypes, feature);
      // A clustering came in between: the comparison was with prototypes of the one before.
      if (prototypes !== this.#prototypes) continue;
      this.#recent.push(similarity);
      if (this.#recent.length > REMEMBERED) this.#recent.shift();
    }
  }
}

/**
 * Jensen-Shannon distance, base 2: the root of the divergence.
 *
 *     √( H((p + q)/2) − (H(p) + H(q))/2 )
 *
 * Source: Endres and Schindelin 2003, doi:10.1109/TIT.2003.813506.
 *
 * @param p, q  equally long, each summing to 1
 * @returns     [0, 1]
 */
export function jensenShannonDistance(
  p: readonly number[],
  q: readonly number[],
): number {
  let divergence = 0;
  for (let i = 0; i < p.length; i++) {
    const mean = (p[i] + q[i]) / 2;
    if (p[i] > 0) divergence += (p[i] / 2) * Math.log2(p[i] / mean);
    if (q[i] > 0) divergence += (q[i] / 2) * Math.log2(q[i] / mean);
  }
  return Math.sqrt(Math.min(1, Math.max(0, divergence)));
}

function histogram(similarities: readonly number[]): number[] {
  const bins = new Array<number>(BINS).fill(0);
  for (const similarity of similarities) {
    const bin = Math.floor(((similarity + 1) / 2) * BINS);
    bins[Math.min(BINS - 1, Math.max(0, bin))] += 1 / similarities.length;
  }
  return bins;
}

async function nearestSimilarity(
  prototypes: readonly Float32Array[],
  feature: Float32Array,
): Promise<number> {
  let best = -1;
  let products = 0;
  for (const prototype of prototypes) {
    let similarity = 0;
    for (let d = 0; d < feature.length; d++)
      similarity += prototype[d] * feature[d];
    best = Math.max(best, similarity);
    products += feature.length;
    if (products < PRODUCTS_AT_ONCE) continue;
    products = 0;
    await setImmediate();
  }
  return best;
}
