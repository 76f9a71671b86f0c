import {
  type FeatureStorage,
  type IndexKind,
  type IndexSpec,
  type IvfSpec,
} from "./index-kinds.js";
import { EngineUnsupportedError } from "./scaled-errors.js";

/** Milvus' index for each of ours, by how it holds features; undefined: Milvus has none. */
const types: Readonly<
  Record<IndexKind, Readonly<Record<FeatureStorage, string | undefined>>>
> = {
  flat: { f32: "FLAT", f16: undefined, int8: undefined },
  hnsw: { f32: "HNSW", f16: undefined, int8: undefined },
  ivf: { f32: "IVF_FLAT", f16: undefined, int8: "IVF_SQ8" },
};

/** Milvus seals a segment of about so many bytes of features, and builds an index for each. */
const segmentBytes = 512 * 1024 * 1024;

/** Lists of an index of a full segment; Milvus takes fewer for one that has fewer rows. */
function listsOf(spec: IvfSpec, dimension: number): number {
  if (spec.lists > 0) return spec.lists;
  return Math.round(4 * Math.sqrt(segmentBytes / (4 * dimension)));
}

/** How Milvus is asked for an index. */
export interface MilvusIndex {
  readonly index_type: string;
  readonly params: Readonly<Record<string, number>>;
}

/**
 * Milvus' index for a specification.
 *
 * @throws {EngineUnsupportedError} it has none with that storage
 */
export function milvusIndexOf(spec: IndexSpec, dimension: number): MilvusIndex {
  const { storage = "f32" } = spec;
  const isCoded = spec.kind === "ivf" && spec.pq !== undefined;
  const type = isCoded ? "IVF_PQ" : types[spec.kind][storage];
  if (type === undefined)
    throw new EngineUnsupportedError(
      `index ${spec.kind} with storage ${storage}`,
      "take f32, or ivf with int8 or a product code",
    );
  switch (spec.kind) {
    case "flat":
      return { index_type: type, params: {} };
    case "hnsw":
      return {
        index_type: type,
        params: { M: spec.m, efConstruction: spec.efConstruction },
      };
    case "ivf":
      return {
        index_type: type,
        params: {
          nlist: listsOf(spec, dimension),
          ...(spec.pq && { m: spec.pq.segments, nbits: spec.pq.bits }),
        },
      };
  }
}

/** What a search is told of an index. @param effort  efSearch or probes of this search */
export function milvusEffort(
  spec: IndexSpec,
  of: {
    readonly dimension: number;
    readonly limit: number;
    readonly effort: number | undefined;
  },
): Readonly<Record<string, number>> {
  switch (spec.kind) {
    case "flat":
      return {};
    case "hnsw":
      return { ef: Math.max(of.limit, of.effort ?? spec.efSearch) };
    case "ivf": {
      const lists = listsOf(spec, of.dimension);
      const own = spec.probes === 0 ? Math.max(8, lists / 16) : spec.probes;
      const probes = Math.round(of.effort ?? own);
      return { nprobe: Math.min(lists, probes) };
    }
  }
}
