import type { IndexSpec } from "./index-kinds.js";

/** Which ids take part in a search: `only` those of the set, or all `except` those. */
export type IdFilter = { readonly mode: "only" | "except" } & (
  | {
      /** float64 [N], whole numbers below 2^53, any order. */
      readonly ids: Float64Array;
    }
  | {
      /**
       * A bit for each id from `firstId` on, least significant bit first: id firstId + i is in the set where
       * bit i % 8 of byte i / 8 is one, or bit i % 32 of word i / 32. Ids outside of it are not in the set.
       */
      readonly bitmap: Uint8Array | Uint32Array;
      /** Whole number below 2^53. */
      readonly firstId: number;
    }
);

/** The set of an {@link IdFilter} as a test of one id. */
export function idTest(filter: IdFilter): (id: number) => boolean {
  if ("ids" in filter) {
    const listed = new Set(filter.ids);
    return (id) => listed.has(id);
  }
  const { bitmap, firstId } = filter;
  const bitsOf = bitmap.BYTES_PER_ELEMENT * 8;
  return (id) => {
    const bit = id - firstId;
    return (
      bit >= 0 &&
      bit < bitmap.length * bitsOf &&
      ((bitmap[Math.floor(bit / bitsOf)] >>> (bit % bitsOf)) & 1) === 1
    );
  };
}

/** The nearest ids of each query. */
export interface Neighbours {
  /** float64 [Q, k]; −1 fills rows that came back short. */
  readonly ids: Float64Array;
  /** float32 [Q, k]; inner products, falling, ties by rising id; −Infinity where the id is −1. */
  readonly similarities: Float32Array;
  /** Every id that passes was compared. */
  readonly exact: boolean;
  /**
   * How far a similarity may lie from the inner product with the feature that was added, for a query of unit length:
   * |q · x − q · x̂| ≤ ‖x − x̂‖, and no row's loss is larger than this. 0: they are the same.
   *
   * So whoever holds the features themselves can make sure of the k nearest: an id left out has a similarity of at
   * most that of the last one found, plus this.
   */
  readonly error: number;
}

/** Settings of one search. */
export interface IndexSearchOptions {
  readonly k: number;
  /** `exact` compares with every id that passes; default index. */
  readonly mode?: "index" | "exact";
  readonly filter?: IdFilter;
  /** efSearch (hnsw) or probes (ivf); default the index's. */
  readonly effort?: number;
  readonly signal?: AbortSignal;
}

/** What an index holds. */
export interface IndexFacts {
  /** Ids that a search can find. */
  readonly count: number;
  /** Removed, but still in memory until `compact`. */
  readonly tombstones: number;
  readonly sizeBytes: number;
  /** False: it needs training, and until then searches exactly over float32. */
  readonly isTrained: boolean;
  /** Inverted lists; 0: it has none. */
  readonly lists: number;
  /** The largest ‖x − x̂‖ of a feature x and what is stored of it. */
  readonly error: number;
}

/** Features under numeric ids, searched by inner product; knows no identities and no cameras. */
export interface VectorIndex {
  readonly spec: IndexSpec;
  readonly dimension: number;
  /**
   * Adds rows; all or none.
   *
   * @param ids       float64 [N], whole numbers in [0, 2^53), none of them in the index; copied
   * @param features  float32 [N, D], within ±10¹⁶; copied before this returns
   */
  add(ids: Float64Array, features: Float32Array): Promise<void>;
  /**
   * Puts rows in the place of those with the same ids, and adds the others; a search finds the old or the new one.
   *
   * Both arrays as in {@link add}.
   */
  update(ids: Float64Array, features: Float32Array): Promise<void>;
  /**
   * Learns what the kind needs (centroids, codes, ranges), and takes over what the index holds; searches go on
   * meanwhile, writes wait. Nothing to do where it is trained or needs no training.
   *
   * @param features  float32 [N, D]; default what it holds
   * @throws {ShapeError} too few
   */
  train(features?: Float32Array): Promise<void>;
  /** @returns how many of the ids were there */
  remove(ids: Float64Array): Promise<number>;
  /**
   * @param queries  float32 [Q, D], finite; copied before this returns
   * @throws {SearchCancelledError} the signal fired; the search stops at the next block
   */
  search(
    queries: Float32Array,
    options: IndexSearchOptions,
  ): Promise<Neighbours>;
  /** Every id, in no particular order. */
  ids(): Promise<Float64Array>;
  /** float32 [N, D], NaN rows for ids that are not there; what is stored of them, which is within `error` of what was added. */
  features(ids: Float64Array): Promise<Float32Array>;
  /**
   * Gives back what tombstones hold; searches go on meanwhile.
   *
   * One after another: what was removed before a call is gone when it resolves, also where it waited for another.
   */
  compact(): Promise<void>;
  /** Writes the index to a file and flushes it. */
  save(path: string): Promise<void>;
  facts(): Promise<IndexFacts>;
  /** Waits for calls under way; idempotent. */
  close(): Promise<void>;
}
