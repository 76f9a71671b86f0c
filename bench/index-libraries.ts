import { createRequire } from "node:module";
import { resolve } from "node:path";

import { FaissIndex } from "#index/faiss";
import { hnswDefaults, type IndexSpec } from "#index/index-kinds";

import { exists } from "./index-data.js";

/** How every graph of the bench is built: what all three libraries can be told. */
export const GRAPH = { m: 32, efConstruction: 200 } as const;

/** efConstruction where only a graph's size counts, which does not depend on it: 200,000 rows are linked in a fifth of the time. */
export const QUICKLY_LINKED = 40;

/** One library with the rows in it. */
export interface SearchedLibrary {
  /** Sets efSearch for the searches that follow. */
  setEffort(effort: number): void | Promise<void>;
  /** Ids of the k nearest of each query, [Q · k]. */
  search(
    queries: Float32Array,
    k: number,
  ): ArrayLike<number> | Promise<ArrayLike<number>>;
}

/** Builds a library's index over float32 [N, D] rows with ids 0 … N − 1; `file` keeps a graph between trials. */
export type LibraryBuilder = (
  rows: Float32Array,
  dimension: number,
  file: string,
) => Promise<SearchedLibrary>;

const peers = createRequire(resolve("out", "peers", "node", "package.json"));

function ids(count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => i);
}

async function ours(
  spec: IndexSpec,
  rows: Float32Array,
  dimension: number,
  file: string,
): Promise<SearchedLibrary> {
  let index: FaissIndex;
  if (spec.kind === "hnsw" && (await exists(file)))
    index = await FaissIndex.load(file);
  else {
    index = FaissIndex.create(spec, dimension);
    await index.add(ids(rows.length / dimension), rows);
    if (spec.kind === "hnsw") await index.save(file);
  }
  let effort: number | undefined;
  return {
    setEffort: (value) => {
      effort = value;
    },
    search: async (queries, k) => {
      const options = effort === undefined ? { k } : { k, effort };
      return (await index.search(queries, options)).ids;
    },
  };
}

interface HnswlibIndex {
  initIndex(most: number, m: number, efConstruction: number): void;
  addPoint(point: number[], label: number): void;
  setEf(ef: number): void;
  searchKnn(query: number[], k: number): { neighbors: number[] };
  readIndexSync(path: string): void;
  writeIndexSync(path: string): void;
}

async function hnswlib(
  rows: Float32Array,
  dimension: number,
  file: string,
): Promise<SearchedLibrary> {
  const { HierarchicalNSW } = peers("hnswlib-node") as {
    HierarchicalNSW: new (space: string, dimension: number) => HnswlibIndex;
  };
  const index = new HierarchicalNSW("ip", dimension);
  if (await exists(file)) index.readIndexSync(file);
  else {
    const count = rows.length / dimension;
    index.initIndex(count, GRAPH.m, GRAPH.efConstruction);
    for (let i = 0; i < count; i++)
      index.addPoint([...rows.subarray(i * dimension, (i + 1) * dimension)], i);
    index.writeIndexSync(file);
  }
  return {
    setEffort: (effort) => {
      index.setEf(effort);
    },
    search: (queries, k) => {
      const found: number[] = [];
      for (let start = 0; start < queries.length; start += dimension) {
        const query = [...queries.subarray(start, start + dimension)];
        found.push(...index.searchKnn(query, k).neighbors);
      }
      return found;
    },
  };
}

interface UsearchIndex {
  add(keys: BigUint64Array, rows: Float32Array, threads: number): void;
  search(
    rows: Float32Array,
    k: number,
    threads: number,
  ): { keys: BigUint64Array };
  save(path: string): void;
  load(path: string): void;
}

async function usearch(
  rows: Float32Array,
  dimension: number,
  file: string,
): Promise<SearchedLibrary> {
  const { Index } = peers("usearch") as {
    Index: new (config: object) => UsearchIndex;
  };
  const open = (effort: number) =>
    new Index({
      dimensions: dimension,
      metric: "ip",
      quantization: "f32",
      connectivity: GRAPH.m,
      expansion_add: GRAPH.efConstruction,
      expansion_search: effort,
      multi: false,
    });
  if (!(await exists(file))) {
    const built = open(64);
    const keys = BigUint64Array.from(
      { length: rows.length / dimension },
      (_, i) => BigInt(i),
    );
    built.add(keys, rows, 0);
    built.save(file);
  }
  let index = open(64);
  return {
    // Its effort is fixed when it is opened.
    setEffort: (effort) => {
      index = open(effort);
      index.load(file);
    },
    search: (queries, k) => {
      const { keys } = index.search(queries, k, 0);
      return Float64Array.from(keys, Number);
    },
  };
}

/** Every library that can be searched from Node. */
export const libraries = {
  "ours, flat": (rows, dimension, file) =>
    ours({ kind: "flat" }, rows, dimension, file),
  "ours, HNSW": (rows, dimension, file) =>
    ours({ ...hnswDefaults, ...GRAPH }, rows, dimension, file),
  "hnswlib-node": hnswlib,
  usearch,
} as const satisfies Readonly<Record<string, LibraryBuilder>>;

/** Name of a library. */
export type LibraryName = keyof typeof libraries;

/**
 * What a library's file of a graph is of: its layout, or the version that wrote it. Raised with it, so that no bench
 * loads what an older one has left.
 */
const graphFormats: Readonly<Record<LibraryName | "python3-faiss", string>> = {
  "ours, flat": "none",
  "ours, HNSW": "format-2",
  "hnswlib-node": "3.0.0",
  usearch: "2.26.2",
  "python3-faiss": "1.7.3",
};

/** Where a library's graph over some rows is kept: every setting that it depends on is in the name. */
export function graphFile(
  rows: string,
  name: keyof typeof graphFormats,
): string {
  const library = name.replace(/[^a-z0-9]+/gi, "-");
  const settings = `m${GRAPH.m}-ef${GRAPH.efConstruction}`;
  return `${rows}.${library}.${settings}.${graphFormats[name]}.graph`;
}
