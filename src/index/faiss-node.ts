import { createRequire } from "node:module";
import { setImmediate } from "node:timers/promises";

import { ClosedError } from "#core/errors";

import { BindingMissingError, SearchCancelledError } from "./errors.js";
import { ExactIndex } from "./exact.js";
import type { IndexSpec } from "./index-kinds.js";
import type {
  IndexFacts,
  IndexSearchOptions,
  Neighbours,
  VectorIndex,
} from "./vector-index.js";

/** An index of faiss-node: labels are positions, numbers travel as plain arrays, every call blocks its thread. */
export interface FaissNodeHandle {
  ntotal(): number;
  add(rows: number[]): void;
  /** Throws where k is more than `ntotal`. */
  search(
    queries: number[],
    k: number,
  ): { readonly distances: number[]; readonly labels: number[] };
  /** Labels behind the removed ones move down; of a graph it ends the process. */
  removeIds(labels: number[]): number;
}

/**
 * What we use of the package faiss-node, 0.5.
 *
 * Source: ewfian/faiss-node lib/index.d.ts and src/faiss.cc
 */
export interface FaissNode {
  readonly IndexFlatIP: new (dimension: number) => FaissNodeHandle;
  readonly Index: {
    fromFactory(
      dimension: number,
      description: string,
      metric: number,
    ): FaissNodeHandle;
  };
  readonly MetricType: { readonly METRIC_INNER_PRODUCT: number };
}

const require = createRequire(import.meta.url);

/** @throws {BindingMissingError} the package is not installed, or has no binary for this machine */
export function loadFaissNode(): FaissNode {
  try {
    return require("faiss-node") as FaissNode;
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new BindingMissingError("faiss-node", cause.split("\n")[0] ?? "", {
      cause: error,
    });
  }
}

/** Rows given to faiss-node in one call: it copies number by number, and links each into the graph. */
const addedAtOnce = 32;

/**
 * FAISS through the package faiss-node: unfiltered searches of flat and HNSW indexes, exactly or by the graph.
 *
 * The package has no ids, filters, updates, removal from a graph, efSearch or nprobe, and gives no features back. So
 * the rows are kept here as well, and what it cannot do (a filter, an `ivf` index, a graph with too many removed rows
 * among the nearest) is an exact search of onnxruntime over them. Calls run on the calling thread.
 */
export class FaissNodeIndex implements VectorIndex {
  readonly spec: IndexSpec;
  readonly dimension: number;
  readonly #package: FaissNode;
  readonly #rows: ExactIndex;
  /** Undefined: the package cannot search this kind. */
  #handle: FaissNodeHandle | undefined;
  /** Id of each label; −1: removed, as a graph keeps it. */
  #ids: number[] = [];
  #labels = new Map<number, number>();
  #writes: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(spec: IndexSpec, dimension: number, faissNode: FaissNode) {
    this.spec = spec;
    this.dimension = dimension;
    this.#package = faissNode;
    this.#rows = new ExactIndex(spec, dimension);
    this.#handle = this.#empty();
  }

  add(ids: Float64Array, features: Float32Array): Promise<void> {
    const [idsCopy, rows] = [ids.slice(), features.slice()];
    return this.#inTurn(async () => {
      await this.#rows.add(idsCopy, rows);
      await this.#append(idsCopy, rows);
    });
  }

  update(ids: Float64Array, features: Float32Array): Promise<void> {
    const [idsCopy, rows] = [ids.slice(), features.slice()];
    return this.#inTurn(async () => {
      await this.#rows.update(idsCopy, rows);
      this.#drop(idsCopy);
      await this.#append(idsCopy, rows);
    });
  }

  /** Nothing to do: what would need it is searched exactly. */
  train(): Promise<void> {
    return this.#inTurn(() => this.#rows.train());
  }

  remove(ids: Float64Array): Promise<number> {
    const copy = ids.slice();
    return this.#inTurn(async () => {
      this.#drop(copy);
      return this.#rows.remove(copy);
    });
  }

  async search(
    queries: Float32Array,
    options: IndexSearchOptions,
  ): Promise<Neighbours> {
    this.#assertOpen();
    const { k, filter, mode, effort = 0, signal } = options;
    if (signal?.aborted) throw new SearchCancelledError();
    const isWanted = filter === undefined && mode !== "exact";
    return (
      (isWanted ? this.#byPackage(queries, k, effort) : undefined) ??
      this.#rows.search(queries, options)
    );
  }

  ids(): Promise<Float64Array> {
    return this.#rows.ids();
  }

  features(ids: Float64Array): Promise<Float32Array> {
    return this.#rows.features(ids);
  }

  /** Builds the graph anew from the rows that are left; searches use the old one until it is done. */
  compact(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#labels.size === this.#ids.length) return;
      const ids = await this.#rows.ids();
      const fresh = new FaissNodeIndex(
        this.spec,
        this.dimension,
        this.#package,
      );
      await fresh.#append(ids, await this.#rows.features(ids));
      this.#handle = fresh.#handle;
      this.#ids = fresh.#ids;
      this.#labels = fresh.#labels;
    });
  }

  /** @throws {BindingMissingError} always: our files have ids in them, the package's have none */
  save(path: string): Promise<void> {
    return this.#rows.save(path);
  }

  async facts(): Promise<IndexFacts> {
    const facts = await this.#rows.facts();
    const graph = this.#handle === undefined ? 0 : 2;
    return {
      ...facts,
      tombstones: this.#ids.length - this.#labels.size,
      // The rows are there twice where the package has them; its links are not counted.
      sizeBytes: facts.sizeBytes * Math.max(1, graph),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writes;
    await this.#rows.close();
    this.#handle = undefined;
  }

  #empty(): FaissNodeHandle | undefined {
    const { Index, IndexFlatIP, MetricType } = this.#package;
    switch (this.spec.kind) {
      case "flat":
        return new IndexFlatIP(this.dimension);
      case "hnsw":
        return Index.fromFactory(
          this.dimension,
          `HNSW${this.spec.m},Flat`,
          MetricType.METRIC_INNER_PRODUCT,
        );
      case "ivf":
        return undefined;
    }
  }

  /** @returns undefined where the package cannot answer */
  #byPackage(
    queries: Float32Array,
    k: number,
    effort: number,
  ): Neighbours | undefined {
    const handle = this.#handle;
    const total = this.#ids.length;
    if (handle === undefined || total === 0) return undefined;
    const dead = total - this.#labels.size;
    // The package cannot set efSearch, but FAISS looks at no fewer candidates than are asked for.
    const width =
      this.spec.kind === "hnsw"
        ? Math.max(k, effort > 0 ? effort : this.spec.efSearch)
        : k;
    const asked = Math.min(total, width + Math.min(dead, width));
    const { labels, distances } = handle.search([...queries], asked);
    const count = queries.length / this.dimension;
    const ids = new Float64Array(count * k).fill(-1);
    const similarities = new Float32Array(count * k).fill(-Infinity);
    for (let q = 0; q < count; q++) {
      const found: { id: number; similarity: number }[] = [];
      for (let i = q * asked; i < (q + 1) * asked; i++) {
        const id = labels[i] < 0 ? -1 : this.#ids[labels[i]];
        if (id >= 0) found.push({ id, similarity: distances[i] });
      }
      if (found.length < Math.min(k, this.#labels.size)) return undefined;
      found.sort((a, b) => b.similarity - a.similarity || a.id - b.id);
      found.slice(0, k).forEach(({ id, similarity }, i) => {
        ids[q * k + i] = id;
        similarities[q * k + i] = similarity;
      });
    }
    return { ids, similarities, exact: this.spec.kind === "flat", error: 0 };
  }

  async #append(ids: Float64Array, rows: Float32Array): Promise<void> {
    if (this.#handle === undefined) return;
    const d = this.dimension;
    for (let start = 0; start < ids.length; start += addedAtOnce) {
      if (start > 0) await setImmediate();
      if (this.#closed) throw new ClosedError("index");
      const end = Math.min(ids.length, start + addedAtOnce);
      this.#handle.add([...rows.subarray(start * d, end * d)]);
      for (const id of ids.subarray(start, end)) {
        this.#labels.set(id, this.#ids.length);
        this.#ids.push(id);
      }
    }
  }

  #drop(ids: Float64Array): void {
    const labels = [...ids].flatMap((id) => this.#labels.get(id) ?? []);
    if (labels.length === 0 || this.#handle === undefined) return;
    for (const label of labels) {
      this.#labels.delete(this.#ids[label]);
      this.#ids[label] = -1;
    }
    if (this.spec.kind !== "flat") return;
    this.#handle.removeIds(labels);
    this.#ids = this.#ids.filter((id) => id >= 0);
    this.#labels = new Map(this.#ids.map((id, label) => [id, label]));
  }

  /** Writes one after the other: each gives the thread away in between. */
  #inTurn<Result>(write: () => Promise<Result>): Promise<Result> {
    const turn = this.#writes.then(() => {
      this.#assertOpen();
      return write();
    });
    this.#writes = turn.catch(() => undefined);
    return turn;
  }

  #assertOpen(): void {
    if (this.#closed) throw new ClosedError("index");
  }
}
