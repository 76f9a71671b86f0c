import { InferenceSession, Tensor } from "onnxruntime-node";

import { ClosedError, ShapeError } from "#core/errors";

import { BindingMissingError, SearchCancelledError } from "./errors.js";
import { exactSearchGraph } from "./exact-graph.js";
import type { IndexSpec } from "./index-kinds.js";
import {
  idTest,
  type IndexFacts,
  type IndexSearchOptions,
  type Neighbours,
  type VectorIndex,
} from "./vector-index.js";

/**
 * Exact search by one matrix product and a top-k on onnxruntime: the last resort where the addon is missing.
 *
 * Whatever the spec says, every search compares with every entry, and runs on the calling thread.
 */
export class ExactIndex implements VectorIndex {
  readonly spec: IndexSpec;
  readonly dimension: number;
  #session: Promise<InferenceSession> | undefined;
  #ids: number[] = [];
  #rows = new Float32Array(0);
  /** Raised by every write: a search beside one begins anew. */
  #version = 0;
  readonly #positions = new Map<number, number>();
  #closed = false;

  constructor(spec: IndexSpec, dimension: number) {
    this.spec = spec;
    this.dimension = dimension;
  }

  async add(ids: Float64Array, features: Float32Array): Promise<void> {
    this.#assertOpen();
    this.#requireShape(ids, features);
    const d = this.dimension;
    const fresh = new Set(ids);
    if (fresh.size !== ids.length || ids.some((id) => this.#positions.has(id)))
      throw new ShapeError("ids", "new and different", "there already");
    const needed = (this.#ids.length + ids.length) * d;
    this.#version++;
    if (this.#rows.length < needed) {
      const grown = new Float32Array(
        Math.max(needed, Math.ceil(this.#rows.length * 1.25)),
      );
      grown.set(this.#rows.subarray(0, this.#ids.length * d));
      this.#rows = grown;
    }
    this.#rows.set(features, this.#ids.length * d);
    for (const id of ids) {
      this.#positions.set(id, this.#ids.length);
      this.#ids.push(id);
    }
  }

  async update(ids: Float64Array, features: Float32Array): Promise<void> {
    this.#assertOpen();
    this.#requireShape(ids, features);
    // Both before anything else runs: neither waits for anything.
    await Promise.all([this.remove(ids), this.add(ids, features)]);
  }

  /** Nothing to do: every search is exact. */
  async train(): Promise<void> {
    this.#assertOpen();
  }

  async remove(ids: Float64Array): Promise<number> {
    this.#assertOpen();
    const d = this.dimension;
    let removed = 0;
    for (const id of ids) {
      const position = this.#positions.get(id);
      if (position === undefined) continue;
      this.#version++;
      const last = this.#ids.length - 1;
      this.#rows.copyWithin(position * d, last * d, (last + 1) * d);
      this.#ids[position] = this.#ids[last];
      this.#positions.set(this.#ids[position], position);
      this.#ids.pop();
      this.#positions.delete(id);
      removed++;
    }
    return removed;
  }

  async search(
    queries: Float32Array,
    options: IndexSearchOptions,
  ): Promise<Neighbours> {
    const { k, filter, signal } = options;
    this.#assertOpen();
    if (signal?.aborted) throw new SearchCancelledError();
    const d = this.dimension;
    const count = queries.length / d;
    if (!Number.isInteger(count) || count < 1)
      throw new ShapeError("queries", `[Q, ${d}]`, `${queries.length} numbers`);
    const ids = new Float64Array(count * k).fill(-1);
    const similarities = new Float32Array(count * k).fill(-Infinity);
    const copied = queries.slice();
    this.#session ??= InferenceSession.create(exactSearchGraph());
    const session = await this.#session;
    const positions = this.#allowed(filter);
    const rows = this.#gather(positions);
    const found = Math.min(k, positions?.length ?? this.#ids.length);
    if (found === 0) return { ids, similarities, exact: true, error: 0 };
    const version = this.#version;
    const answer = await session.run({
      queries: new Tensor("float32", copied, [count, d]),
      rows: new Tensor("float32", rows, [rows.length / d, d]),
      k: new Tensor("int64", BigInt64Array.of(BigInt(found)), [1]),
    });
    // The rows are not copied, as they would be for hundreds of times what a product costs.
    if (this.#version !== version) return this.search(copied, options);
    const values = answer["similarities"].data as Float32Array;
    const where = answer["positions"].data as BigInt64Array;
    for (let q = 0; q < count; q++) {
      const order = Array.from({ length: found }, (_, i) => {
        const position = Number(where[q * found + i]);
        return {
          id: this.#ids[
            positions === undefined ? position : positions[position]
          ],
          similarity: values[q * found + i],
        };
      }).sort((a, b) => b.similarity - a.similarity || a.id - b.id);
      order.forEach(({ id, similarity }, i) => {
        ids[q * k + i] = id;
        similarities[q * k + i] = similarity;
      });
    }
    return { ids, similarities, exact: true, error: 0 };
  }

  async ids(): Promise<Float64Array> {
    this.#assertOpen();
    return Float64Array.from(this.#ids);
  }

  async features(ids: Float64Array): Promise<Float32Array> {
    this.#assertOpen();
    const d = this.dimension;
    const features = new Float32Array(ids.length * d).fill(NaN);
    ids.forEach((id, i) => {
      const position = this.#positions.get(id);
      if (position !== undefined)
        features.set(
          this.#rows.subarray(position * d, (position + 1) * d),
          i * d,
        );
    });
    return features;
  }

  async compact(): Promise<void> {
    this.#assertOpen();
  }

  /** @throws {BindingMissingError} always: the file is FAISS's */
  async save(path: string): Promise<void> {
    this.#assertOpen();
    throw new BindingMissingError(path, "only FAISS writes index files");
  }

  async facts(): Promise<IndexFacts> {
    this.#assertOpen();
    return {
      count: this.#ids.length,
      tombstones: 0,
      sizeBytes: this.#rows.byteLength,
      isTrained: true,
      lists: 0,
      error: 0,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#session)?.release();
    this.#session = undefined;
  }

  #allowed(filter: IndexSearchOptions["filter"]): number[] | undefined {
    if (filter === undefined) return undefined;
    const isListed = idTest(filter);
    const wanted = filter.mode === "only";
    return [...this.#ids.keys()].filter(
      (position) => isListed(this.#ids[position]) === wanted,
    );
  }

  #gather(positions: readonly number[] | undefined): Float32Array {
    const d = this.dimension;
    if (positions === undefined)
      return this.#rows.subarray(0, this.#ids.length * d);
    const rows = new Float32Array(positions.length * d);
    positions.forEach((position, i) => {
      rows.set(this.#rows.subarray(position * d, (position + 1) * d), i * d);
    });
    return rows;
  }

  #requireShape(ids: Float64Array, features: Float32Array): void {
    if (features.length !== ids.length * this.dimension)
      throw new ShapeError(
        "features",
        `[${ids.length}, ${this.dimension}]`,
        `${features.length} numbers`,
      );
  }

  #assertOpen(): void {
    if (this.#closed) throw new ClosedError("index");
  }
}
