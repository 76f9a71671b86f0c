import { setTimeout } from "node:timers/promises";

import { Arrivals } from "./arrivals.js";
import { indexKinds, type IndexSpec } from "./index-kinds.js";
import { trainIfReady } from "./index-training.js";
import { Turns } from "./turns.js";
import type {
  IndexFacts,
  IndexSearchOptions,
  Neighbours,
  VectorIndex,
} from "./vector-index.js";
import { whileWanted } from "./while-wanted.js";

/** Makes an index of the kind this machine has: FAISS, or the exact one without the addon. */
export type IndexFactory = (spec: IndexSpec, dimension: number) => VectorIndex;

/** Found for one query: ids with their similarities, falling. */
export interface Found {
  readonly ids: number[];
  readonly similarities: number[];
}

/** A search over the index and what waits for it. */
export interface FoundSet {
  /** [Q]. */
  readonly queries: readonly Found[];
  readonly exact: boolean;
  /** As {@link Neighbours.error}: 0 where the similarities are those of the features. */
  readonly error: number;
}

/** Hits of index and tail that are put in one order in one turn of the main thread; those of one query at least. */
const mergedAtOnce = 4096;

/** How many entries move at once: a deletion waits for them, searches do not. */
const movedAtOnce = 64;

// Entries a second from which on the tail takes them alone, up to this share of it; how often that is looked at, ms.
const burstRate = 500;
const burstShare = 0.75;
const burstLookMs = 20;

// Compacting costs a build of the whole index: worth it when a quarter of it is dead.
const compactFrom = 1000;
const compactShare = 0.25;

/**
 * The index of a gallery and its tail: entries that are written but not yet linked into the graph.
 *
 * Entries go into the tail at once, where they are compared one by one, and move to the graph in the
 * background. A search looks at the tail first: what leaves it in between is in the graph by then.
 */
export class GalleryIndex {
  #main: VectorIndex;
  readonly #tail: VectorIndex;
  readonly #isLive: (id: number) => boolean;
  readonly #waiting: number[] = [];
  #moving: Promise<void> | undefined;
  #moved: (() => void)[] = [];
  #failure: unknown;
  #tombstones = 0;
  #compacting: Promise<void> | undefined;
  #isTrained = false;
  #training: Promise<void> | undefined;
  #closed = false;
  #replacing = false;
  readonly #arrivals = new Arrivals();
  readonly #burstLimit: number;

  /**
   * @param isLive     whether an id is still of an entry
   * @param tailLimit  how many entries may wait before writes do
   */
  constructor(
    main: VectorIndex,
    tail: VectorIndex,
    isLive: (id: number) => boolean,
    tailLimit: number,
  ) {
    this.#burstLimit = burstShare * tailLimit;
    this.#main = main;
    this.#tail = tail;
    this.#isLive = isLive;
    this.#trainWhenReady();
  }

  /** The index that snapshots are taken of. */
  get main(): VectorIndex {
    return this.#main;
  }

  /** The oldest entry that waits; Infinity where none does. */
  get oldestWaiting(): number {
    return this.#waiting[0] ?? Infinity;
  }

  /** What the index and its tail hold. */
  async facts(): Promise<IndexFacts> {
    const [main, tail] = await Promise.all([
      this.#main.facts(),
      this.#tail.facts(),
    ]);
    return {
      ...main,
      count: main.count + tail.count,
      sizeBytes: main.sizeBytes + tail.sizeBytes,
    };
  }

  /** Every id, once; some may be on both sides while they move. */
  async ids(): Promise<Set<number>> {
    return new Set([...(await this.#tail.ids()), ...(await this.#main.ids())]);
  }

  /** float32 [N, D] of ids on either side; NaN rows for ids that are on neither. */
  async features(ids: Float64Array): Promise<Float32Array> {
    // The tail first: what leaves it in between is in the index by then.
    const features = await this.#tail.features(ids);
    const dimension = this.#main.dimension;
    const missing = [...ids.keys()].filter((i) =>
      Number.isNaN(features[i * dimension]),
    );
    if (missing.length === 0) return features;
    const rest = await this.#main.features(
      Float64Array.from(missing, (i) => ids[i]),
    );
    missing.forEach((i, j) => {
      features.set(
        rest.subarray(j * dimension, (j + 1) * dimension),
        i * dimension,
      );
    });
    return features;
  }

  /** Makes entries findable; ids rise from call to call. */
  async append(ids: Float64Array, features: Float32Array): Promise<void> {
    if (ids.length === 0) return;
    if (indexKinds[this.#main.spec.kind].exact) {
      await this.#main.add(ids, features);
      this.#trainWhenReady();
      return;
    }
    await this.#tail.add(ids, features);
    for (const id of ids) this.#waiting.push(id);
    this.#arrivals.add(ids.length, performance.now());
    this.#startMoving();
  }

  /** Makes entries unfindable. */
  async remove(ids: Float64Array): Promise<void> {
    if (ids.length === 0) return;
    await this.#tail.remove(ids);
    this.#tombstones += await this.#main.remove(ids);
    const { removes } = indexKinds[this.#main.spec.kind];
    if (
      !removes &&
      this.#tombstones >= compactFrom &&
      this.#compacting === undefined
    ) {
      const { count } = await this.#main.facts();
      if (this.#tombstones > compactShare * (count + this.#tombstones))
        this.#compacting = this.#compact();
    }
  }

  /** Gives back what removed entries still hold in the index; searches go on. */
  async compact(): Promise<void> {
    while (this.#compacting !== undefined) await this.#compacting;
    this.#compacting = this.#compact();
    await this.#compacting;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** In the background; until it is done searches compare with everything. */
  #trainWhenReady(): void {
    if (this.#isTrained || this.#training !== undefined || this.#closed) return;
    this.#training = trainIfReady(this.#main).then(
      (isTrained) => {
        this.#isTrained = isTrained;
        this.#training = undefined;
      },
      (error: unknown) => {
        if (!this.#closed) this.#failure ??= error;
        this.#training = undefined;
      },
    );
  }

  async #compact(): Promise<void> {
    try {
      await this.#main.compact();
      this.#tombstones = (await this.#main.facts()).tombstones;
    } catch (error) {
      if (!this.#closed) this.#failure ??= error;
    } finally {
      this.#compacting = undefined;
    }
  }

  /** The nearest of index and tail, each id once. */
  async search(
    queries: Float32Array,
    options: IndexSearchOptions,
    scope: "acknowledged" | "indexed",
  ): Promise<FoundSet> {
    const main = this.#main;
    const tail =
      scope === "acknowledged" && this.#waiting.length > 0
        ? await this.#tail.search(queries, { ...options, mode: "exact" })
        : undefined;
    const neighbours = await main.search(queries, options);
    const found: Found[] = [];
    const turns = new Turns(mergedAtOnce);
    for (let q = 0; q < queries.length / main.dimension; q++) {
      found.push(merge(options.k, q, tail, neighbours));
      if (turns.count(options.k)) await turns.next();
    }
    return { queries: found, exact: neighbours.exact, error: neighbours.error };
  }

  /** Waits until every entry up to this one is in the index. @throws {SearchCancelledError} the signal fired */
  async indexed(sequence: number, signal?: AbortSignal): Promise<void> {
    while (this.oldestWaiting <= sequence && !this.#closed)
      await whileWanted(this.#nextMove(), signal);
  }

  /** Waits while more than this many entries wait for the index. */
  async room(limit: number): Promise<void> {
    while (this.#waiting.length > limit && !this.#closed)
      await this.#nextMove();
  }

  /**
   * Puts another index in place of the present one, which is closed; used under the gallery's gate.
   *
   * @param fresh  holds every entry: what waited for the old index waits no longer
   */
  async replace(fresh: VectorIndex): Promise<void> {
    this.#replacing = true;
    await this.#moving;
    await this.#compacting;
    await this.#training;
    this.#replacing = false;
    const old = this.#main;
    this.#main = fresh;
    this.#tombstones = (await fresh.facts()).tombstones;
    this.#failure = undefined;
    this.#isTrained = false;
    this.#trainWhenReady();
    await this.#tail.remove(Float64Array.from(this.#waiting));
    this.#waiting.splice(0);
    this.#wake();
    await old.close();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#moving?.catch(() => undefined);
    await this.#compacting;
    await this.#training;
    await Promise.all([this.#main.close(), this.#tail.close()]);
    this.#wake();
  }

  #startMoving(): void {
    if (this.#moving !== undefined || this.#closed) return;
    this.#moving = this.#move().then(
      () => undefined,
      (error: unknown) => {
        this.#failure = error;
      },
    );
    void this.#moving.then(() => {
      this.#moving = undefined;
      this.#wake();
      if (
        this.#failure === undefined &&
        this.#waiting.length > 0 &&
        !this.#replacing
      )
        this.#startMoving();
    });
  }

  async #move(): Promise<void> {
    while (this.#waiting.length > 0 && !this.#closed && !this.#replacing) {
      if (this.#isBurst) {
        await setTimeout(burstLookMs);
        continue;
      }
      const batch = this.#waiting.slice(0, movedAtOnce);
      const live = Float64Array.from(batch.filter((id) => this.#isLive(id)));
      const features = await this.#tail.features(live);
      const dimension = this.#main.dimension;
      // Removed from the tail since: its row is NaN, and it is not wanted in the graph.
      const kept = [...live.keys()].filter(
        (i) => !Number.isNaN(features[i * dimension]),
      );
      const ids = Float64Array.from(kept, (i) => live[i]);
      const rows = new Float32Array(kept.length * dimension);
      kept.forEach((i, j) => {
        rows.set(
          features.subarray(i * dimension, (i + 1) * dimension),
          j * dimension,
        );
      });
      if (ids.length > 0) await this.#main.add(ids, rows);
      this.#trainWhenReady();
      const gone = ids.filter((id) => !this.#isLive(id));
      if (gone.length > 0) this.#tombstones += await this.#main.remove(gone);
      await this.#tail.remove(Float64Array.from(batch));
      this.#waiting.splice(0, batch.length);
      this.#wake();
    }
  }

  /**
   * Whether entries come so fast that linking them had better wait: the tail is there for that, and who writes needs
   * the processor. Not where somebody waits for the index.
   */
  get #isBurst(): boolean {
    return (
      this.#arrivals.rate(performance.now()) >= burstRate &&
      this.#waiting.length < this.#burstLimit &&
      this.#moved.length === 0
    );
  }

  #wake(): void {
    const moved = this.#moved;
    this.#moved = [];
    for (const resume of moved) resume();
  }

  async #nextMove(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) return;
    await new Promise<void>((resume) => this.#moved.push(resume));
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function merge(
  k: number,
  q: number,
  tail: Neighbours | undefined,
  main: Neighbours,
): Found {
  let t = q * k;
  let m = q * k;
  const end = (q + 1) * k;
  if (tail === undefined) {
    const short = main.ids.subarray(m, end).indexOf(-1);
    const last = short < 0 ? end : m + short;
    return {
      ids: [...main.ids.subarray(m, last)],
      similarities: [...main.similarities.subarray(m, last)],
    };
  }
  const ids: number[] = [];
  const similarities: number[] = [];
  const seen = new Set<number>();
  while (ids.length < k) {
    const a = t < end ? tail.similarities[t] : -Infinity;
    const b = m < end ? main.similarities[m] : -Infinity;
    const fromTail = a > b || (a === b && t < end && m >= end);
    const id = fromTail ? tail.ids[t] : m < end ? main.ids[m] : -1;
    if (fromTail) t++;
    else m++;
    if (id < 0) break;
    if (seen.has(id)) continue;
    seen.add(id);
    ids.push(id);
    similarities.push(fromTail ? a : b);
  }
  return { ids, similarities };
}
