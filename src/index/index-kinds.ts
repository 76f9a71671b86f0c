/** The index structures a gallery can have. */
export type IndexKind = "flat" | "hnsw" | "ivf";

/**
 * How an index stores the numbers of a feature.
 *
 * `f16` takes half the memory of `f32` and costs about 2·10⁻⁴ in a feature's place, `int8` a quarter and about
 * 10⁻²; what it cost at most is {@link IndexFacts.error}.
 */
export type FeatureStorage = "f32" | "f16" | "int8";

interface Stored {
  /** Default f32; then left out. */
  readonly storage?: FeatureStorage;
}

/** An exact index: every search compares with every entry. */
export interface FlatSpec extends Stored {
  readonly kind: "flat";
}

/** A graph index, approximate. */
export interface HnswSpec extends Stored {
  readonly kind: "hnsw";
  /** Links of a node, 4 to 128. */
  readonly m: number;
  /** Candidates looked at when a node is linked, 8 to 2000. */
  readonly efConstruction: number;
  /** Candidates looked at in a search, 1 to 10,000; raised to k. */
  readonly efSearch: number;
}

/** Features cut into segments, each a number of 4 or 8 bits. */
export type ProductCode = Readonly<{
  /** Divides the dimension. */
  segments: number;
  bits: 4 | 8;
}>;

/** Inverted lists around centroids, approximate; exact until it is trained. */
export interface IvfSpec extends Stored {
  readonly kind: "ivf";
  /** 1 to 65,536; 0: 4 · √entries at training. */
  readonly lists: number;
  /** Lists looked at in a search; 0: the larger of 8 and lists / 16. */
  readonly probes: number;
  /** Compresses what the lists hold; then without `storage`. */
  readonly pq?: ProductCode;
}

/** What index a gallery has, with every default filled in. */
export type IndexSpec = FlatSpec | HnswSpec | IvfSpec;

/** The exact index. */
export const flatSpec: FlatSpec = { kind: "flat" };

/** Defaults of api.md section 6. */
export const hnswDefaults: HnswSpec = {
  kind: "hnsw",
  m: 32,
  efConstruction: 200,
  efSearch: 128,
};

/** What the numbers of each kind may be, api.md section 6; those of `ivf` may be 0, too. */
export const indexRanges = {
  flat: {},
  hnsw: {
    m: { minimum: 4, maximum: 128 },
    efConstruction: { minimum: 8, maximum: 2000 },
    efSearch: { minimum: 1, maximum: 10_000 },
  },
  ivf: {
    lists: { minimum: 1, maximum: 65_536 },
    probes: { minimum: 1, maximum: 65_536 },
  },
} as const satisfies Readonly<Record<IndexKind, object>>;

/** Defaults of api.md section 6. */
export const ivfDefaults: IvfSpec = { kind: "ivf", lists: 0, probes: 0 };

// Of FAISS: fewer entries for each list give bad centroids (ClusteringParameters::min_points_per_centroid).
const entriesOfList = 39;

// Rows that the range of an int8 number is taken from: far more than the addon asks for, so that few lie beyond.
const entriesOfRange = 4096;

/** What each kind of index does; a new kind is a new row here and in native/index_kinds.cc. */
export const indexKinds: Readonly<
  Record<
    IndexKind,
    {
      /** Every search compares with every entry. */
      readonly exact: boolean;
      /** An entry leaves at once; else as a tombstone until the index is compacted. */
      readonly removes: boolean;
    }
  >
> = {
  flat: { exact: true, removes: true },
  hnsw: { exact: false, removes: false },
  ivf: { exact: false, removes: true },
};

/** Whether an index, once trained, holds codes that only stand for the features. */
export function isLossy(spec: IndexSpec): boolean {
  return (
    (spec.storage ?? "f32") !== "f32" ||
    (spec.kind === "ivf" && spec.pq !== undefined)
  );
}

/**
 * How many entries an index is trained on; until it has them it searches exactly over float32.
 *
 * @returns 0: it needs no training
 */
export function trainedFrom(spec: IndexSpec): number {
  const ofRange = spec.storage === "int8" ? entriesOfRange : 0;
  if (spec.kind !== "ivf") return ofRange;
  // With 4 · √n lists, n entries are 39 for each list from n = (4 · 39)² on.
  const lists = spec.lists === 0 ? 4 * (4 * entriesOfList) : spec.lists;
  const ofCodes = spec.pq === undefined ? 0 : entriesOfList * 2 ** spec.pq.bits;
  return Math.max(entriesOfList * lists, ofCodes, ofRange);
}
