import type { FaissNode, FaissNodeHandle } from "#index/faiss-node";
import type * as declared from "./declared.js";

/** The package as it declares itself has everything that we use, under the same types. */
export type Holds = typeof declared extends FaissNode ? true : never;

/**
 * A double of the package faiss-node 0.5.1, by its contract: for machines where the package cannot be installed.
 *
 * Its limits are the package's: plain arrays only, labels that are positions, k of at most `ntotal`, labels that move
 * down behind removed ones, and no removal from a graph, where the package ends the process.
 */
class HandleDouble implements FaissNodeHandle {
  readonly #dimension: number;
  readonly #isGraph: boolean;
  #rows: number[][] = [];

  constructor(dimension: number, isGraph = false) {
    this.#dimension = dimension;
    this.#isGraph = isGraph;
  }

  ntotal(): number {
    return this.#rows.length;
  }

  add(rows: number[]): void {
    this.#rows.push(...this.#cut(rows));
  }

  search(queries: number[], k: number) {
    if (k > this.#rows.length)
      throw new Error(
        `Invalid the number of k (cannot be given a value greater than \`ntotal\`: ${this.#rows.length}).`,
      );
    const distances: number[] = [];
    const labels: number[] = [];
    for (const query of this.#cut(queries)) {
      const products = this.#rows
        .map((row, label) => ({
          label,
          product: Math.fround(
            row.reduce((sum, x, i) => sum + x * query[i], 0),
          ),
        }))
        .sort((a, b) => b.product - a.product)
        .slice(0, k);
      distances.push(...products.map(({ product }) => product));
      labels.push(...products.map(({ label }) => label));
    }
    return { distances, labels };
  }

  removeIds(labels: number[]): number {
    if (this.#isGraph)
      throw new Error("the package would have ended the process");
    const before = this.#rows.length;
    this.#rows = this.#rows.filter((_, label) => !labels.includes(label));
    return before - this.#rows.length;
  }

  #cut(numbers: unknown): number[][] {
    if (!Array.isArray(numbers))
      throw new TypeError("Invalid the first argument type, must be an Array.");
    if (numbers.length % this.#dimension !== 0)
      throw new Error("Invalid the given array length.");
    const rows: number[][] = [];
    for (let at = 0; at < numbers.length; at += this.#dimension)
      rows.push(
        numbers.slice(at, at + this.#dimension).map((x) => Math.fround(x)),
      );
    return rows;
  }
}

/** The double, in the package's place. */
export const faissNodeDouble: FaissNode = {
  IndexFlatIP: HandleDouble,
  Index: {
    fromFactory: (dimension, description) => {
      if (!/^HNSW\d+,Flat$/.test(description))
        throw new Error(`could not parse index string ${description}`);
      return new HandleDouble(dimension, true);
    },
  },
  MetricType: { METRIC_INNER_PRODUCT: 0 },
};
