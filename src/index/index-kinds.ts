/** The index structures a gallery can have. */
export type IndexKind = "flat" | "hnsw";

/** An exact index: every search compares with every entry. */
export interface FlatSpec {
  readonly kind: "flat";
}

/** A graph index, approximate. */
export interface HnswSpec {
  readonly kind: "hnsw";
  /** Links of a node, 4 to 128. */
  readonly m: number;
  /** Candidates looked at when a node is linked, 8 to 2000. */
  readonly efConstruction: number;
  /** Candidates looked at in a search, 1 to 10,000; raised to k. */
  readonly efSearch: number;
}

/** What index a gallery has, with every default filled in. */
export type IndexSpec = FlatSpec | HnswSpec;

/** The exact index. */
export const flatSpec: FlatSpec = { kind: "flat" };

/** Defaults of api.md section 6. */
export const hnswDefaults: HnswSpec = {
  kind: "hnsw",
  m: 32,
  efConstruction: 200,
  efSearch: 128,
};

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
};
