import { NoClustersError } from "#memory/errors";
import {
  positionOf,
  type MemoryCluster,
  type MemoryClustering,
} from "./online-clusters.js";
import { ClusteringGoneError, ClusterNotFoundError } from "./online-errors.js";
import type {
  ClusteredRow,
  MemoryOptions,
  RowQuery,
} from "./online-memory-types.js";
import type { MemoryRows } from "./online-rows.js";

/** The last two clusterings of a memory, and what they say of its rows. */
export class MemoryClusterings {
  readonly #rows: MemoryRows;
  readonly #config: MemoryOptions["config"];
  /** Older first. */
  #kept: readonly MemoryClustering[] = [];

  /** @param config  said where there are no clusters */
  constructor(rows: MemoryRows, config: MemoryOptions["config"]) {
    this.#rows = rows;
    this.#config = config;
  }

  /** Older first. */
  get all(): readonly MemoryClustering[] {
    return this.#kept;
  }

  /** The one in force. */
  get last(): MemoryClustering | undefined {
    return this.#kept.at(-1);
  }

  /** float32 [D] unit each, of the one in force. */
  get prototypes(): readonly Float32Array[] {
    return this.last?.clusters.map((cluster) => cluster.prototype) ?? [];
  }

  /** Takes the place of all. */
  restore(clusterings: readonly MemoryClustering[]): void {
    this.#kept = clusterings;
  }

  /** Puts one in force; the one before the last is gone. */
  add(clustering: MemoryClustering): void {
    this.#kept = [...this.#kept.slice(-1), clustering];
  }

  /** As `OnlineMemory.clusters`. @throws {NoClustersError} @throws {ClusteringGoneError} */
  clusters(
    minSize: number,
    number: number | undefined,
  ): {
    readonly clustering: number;
    readonly clusters: readonly MemoryCluster[];
  } {
    const clustering = this.#find(number);
    const clusters = clustering.clusters.filter(({ size }) => size >= minSize);
    return { clustering: clustering.number, clusters };
  }

  /** As `OnlineMemory.rows`. @throws {NoClustersError} @throws {ClusteringGoneError} @throws {ClusterNotFoundError} */
  rows(query: RowQuery): {
    readonly clustering: number;
    readonly rows: readonly ClusteredRow[];
  } {
    const clustering = this.#find(query.clustering);
    const { clusterId, afterRow = -1, limit } = query;
    const identities = new Map(
      clustering.clusters.map((one) => [one.clusterId, one.pseudoIdentity]),
    );
    if (clusterId !== undefined && clusterId >= 0 && !identities.has(clusterId))
      throw new ClusterNotFoundError(clusterId, clustering.number);
    const rows: ClusteredRow[] = [];
    const { clusterIds, pseudoLabels } = clustering;
    for (let i = 0; i < clusterIds.length && rows.length < limit; i++) {
      if (clustering.rows[i] <= afterRow) continue;
      if (clusterId !== undefined && clusterIds[i] !== clusterId) continue;
      const row = this.#rows.get(clustering.rows[i]);
      if (row === undefined) continue;
      rows.push({
        ...row,
        clusterId: clusterIds[i],
        pseudoLabel: pseudoLabels[i],
        pseudoIdentity: identities.get(clusterIds[i]) ?? "",
      });
    }
    return { clustering: clustering.number, rows };
  }

  /** The cluster id of a row in the last one; −1: outlier, or newer than that. */
  clusterOf(row: number): number {
    const { last } = this;
    const position = last === undefined ? -1 : positionOf(last, row);
    return last === undefined || position < 0 ? -1 : last.clusterIds[position];
  }

  #find(number: number | undefined): MemoryClustering {
    const { last } = this;
    const { eps, minSamples } = this.#config;
    if (last === undefined)
      throw new NoClustersError(eps, minSamples, this.#rows.size);
    if (number === undefined || number === 0) return last;
    const found = this.#kept.find((one) => one.number === number);
    if (found === undefined) throw new ClusteringGoneError(number, last.number);
    return found;
  }
}
