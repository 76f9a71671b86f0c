import { FaissIndex } from "#index/faiss";
import { hnswDefaults, type IndexSpec } from "#index/index-kinds";

const hnsw = { ...hnswDefaults, m: 8, efConstruction: 32 };
const ivf = { kind: "ivf", lists: 8, probes: 4 } as const;

/** Every kind of index in every storage, small. */
export const indexSpecs: Readonly<Record<string, IndexSpec>> = {
  flat: { kind: "flat" },
  "flat in f16": { kind: "flat", storage: "f16" },
  "flat in int8": { kind: "flat", storage: "int8" },
  hnsw,
  "hnsw in f16": { ...hnsw, storage: "f16" },
  "hnsw in int8": { ...hnsw, storage: "int8" },
  ivf,
  "ivf in f16": { ...ivf, storage: "f16" },
  "ivf in int8": { ...ivf, storage: "int8" },
  "ivf with a product code": { ...ivf, pq: { segments: 8, bits: 4 } },
};

/** float64 [end − first], rising. */
export function idsFrom(first: number, end: number): Float64Array {
  return Float64Array.from({ length: end - first }, (_, i) => first + i);
}

/** An index with ids from 0 on, not trained. */
export async function filledIndex(
  spec: IndexSpec,
  rows: Float32Array,
  dimension: number,
): Promise<FaissIndex> {
  const index = FaissIndex.create(spec, dimension);
  await index.add(idsFrom(0, rows.length / dimension), rows);
  return index;
}
