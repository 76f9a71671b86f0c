import { createHash } from "node:crypto";

/** The position of a stream, as four unsigned 32-bit words: what a checkpoint keeps. */
export type RandomState = readonly [number, number, number, number];

/**
 * A deterministic stream of pseudo-random numbers.
 *
 * xoshiro128**; the state is seeded from SHA-256 of the stream's name and keys, so that streams
 * are independent of one another and adding a use elsewhere changes nothing here.
 *
 * Source: Blackman and Vigna 2021, doi:10.1145/3460772 (xoshiro128**).
 */
export class RandomStream {
  #s0: number;
  #s1: number;
  #s2: number;
  #s3: number;

  constructor(state: RandomState) {
    [this.#s0, this.#s1, this.#s2, this.#s3] = state;
  }

  /** The present position; `new RandomStream(state)` goes on from it. */
  get state(): RandomState {
    return [this.#s0, this.#s1, this.#s2, this.#s3];
  }

  /** Uniform integer in [0, 2^32). */
  uint32(): number {
    const x = Math.imul(this.#s1, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = this.#s1 << 9;
    this.#s2 ^= this.#s0;
    this.#s3 ^= this.#s1;
    this.#s1 ^= this.#s2;
    this.#s0 ^= this.#s3;
    this.#s2 ^= t;
    this.#s3 = (this.#s3 << 11) | (this.#s3 >>> 21);
    return result;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** Uniform integer in [0, bound), bound ≥ 1. */
  below(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Normal with mean 0 and deviation 1 (Box-Muller, the cosine branch). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles in place (Fisher-Yates) and returns the same array. */
  shuffle<
    T extends { [i: number]: number; readonly length: number } | unknown[],
  >(items: T): T {
    const array = items as unknown[];
    for (let i = array.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [array[i], array[j]] = [array[j], array[i]];
    }
    return items;
  }

  /** `count` different integers of [0, bound), in random order; count ≤ bound. */
  sample(bound: number, count: number): number[] {
    const pool = Array.from({ length: bound }, (_, i) => i);
    for (let i = 0; i < count; i++) {
      const j = i + this.below(bound - i);
      [pool[i], pool[j]] = [pool[j], pool[i]];
    }
    return pool.slice(0, count);
  }
}

/**
 * The stream of one use: the same seed, name and keys give the same numbers.
 *
 * @param seed  the run's seed
 * @param name  what the numbers are for, such as `sampler`
 * @param keys  epoch, sample … : each combination is a stream of its own
 */
export function randomStream(
  seed: number,
  name: string,
  ...keys: readonly (number | string)[]
): RandomStream {
  const digest = createHash("sha256")
    .update(JSON.stringify([seed, name, ...keys]))
    .digest();
  return new RandomStream([
    digest.readInt32LE(0),
    digest.readInt32LE(4),
    digest.readInt32LE(8),
    digest.readInt32LE(12) | 1,
  ]);
}
