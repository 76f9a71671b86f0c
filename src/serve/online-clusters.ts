import { setImmediate } from "node:timers/promises";
import { normalizeRows } from "#core/vectors";
import { OUTLIER } from "#memory/dbscan";
import type { MemoryRow } from "./online-rows.js";

/** One cluster of two rows or more; holds within its clustering. */
export interface MemoryCluster {
  /** ≥ 0. */
  readonly clusterId: number;
  /** Kept from clustering to clustering while more than half of the members stay. */
  readonly pseudoIdentity: string;
  readonly size: number;
  /** All of them, sorted. */
  readonly cameraIds: readonly string[];
  /** The minimum over the members, as the reference has it; 0 is best. */
  readonly rComp: number;
  readonly rIndep: number;
  /** First and last crop, milliseconds since 1970. */
  readonly capturedFromMs: number;
  readonly capturedToMs: number;
  /** float32 [D], unit: the mean of the members, then L2. */
  readonly prototype: Float32Array;
}

/** One clustering of the memory. */
export interface MemoryClustering {
  /** From 1, rising by one. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly clusteredAtMs: number;
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
  /** Absent until a clustering found it. */
  readonly independenceThreshold: number | undefined;
  /** float64 [N]: numbers of the rows clustered, rising. */
  readonly rows: Float64Array;
  /** int32 [N], −1: outlier. */
  readonly clusterIds: Int32Array;
  /** int32 [N], ≥ 0: after reliability, every outlier has one of its own. */
  readonly pseudoLabels: Int32Array;
  /** By size falling, then cluster id. */
  readonly clusters: readonly MemoryCluster[];
  readonly outlierCount: number;
  /** Number that the next new pseudo identity gets. */
  readonly nextIdentity: number;
}

/** What a clustering gave, by row. */
export interface ClusteredRows {
  /** By number, rising; [N]. */
  readonly rows: readonly MemoryRow[];
  readonly clusterIds: Int32Array;
  readonly pseudoLabels: Int32Array;
  readonly rComp: Float32Array;
  readonly rIndep: Float32Array;
}

/** Rows summed before other work gets its turn: well under a millisecond at 2048 numbers a row. */
const ROWS_AT_ONCE = 128;

/**
 * Gathers clusters from a clustering's labels and carries pseudo identities over from the one before.
 *
 * A cluster takes the identity of an earlier one if more than half of that one's members, of those that are
 * still in memory, are in it. Yields to other work between clusters. Of several, the one with the most members in it, ties to the lower cluster id.
 */
export async function summarizeClustering(
  clustered: ClusteredRows,
  facts: Pick<
    MemoryClustering,
    "number" | "clusteredAtMs" | "k1" | "k2" | "eps" | "independenceThreshold"
  >,
  before: MemoryClustering | undefined,
): Promise<MemoryClustering> {
  const { rows, clusterIds, pseudoLabels } = clustered;
  const members = membersByCluster(clusterIds);
  const inherited =
    before === undefined
      ? new Map<number, string>()
      : inherit(clustered, before);
  let nextIdentity = before?.nextIdentity ?? 1;
  const clusters: MemoryCluster[] = [];
  let summed = 0;
  for (const [clusterId, positions] of members) {
    summed += positions.length;
    if (summed > ROWS_AT_ONCE) {
      summed = 0;
      await setImmediate();
    }
    const pseudoIdentity =
      inherited.get(clusterId) ?? `pseudo-${nextIdentity++}`;
    clusters.push(
      describe(clustered, { clusterId, pseudoIdentity, positions }),
    );
  }
  clusters.sort((a, b) => b.size - a.size || a.clusterId - b.clusterId);
  return {
    ...facts,
    rows: Float64Array.from(rows, (row) => row.row),
    clusterIds,
    pseudoLabels,
    clusters,
    outlierCount: clusterIds.reduce((n, id) => n + (id === OUTLIER ? 1 : 0), 0),
    nextIdentity,
  };
}

/** Position of a row in a clustering; −1: it came later. */
export function positionOf(clustering: MemoryClustering, row: number): number {
  const { rows } = clustering;
  let low = 0;
  let high = rows.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (rows[middle] === row) return middle;
    if (rows[middle] < row) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** Positions of each cluster's members, clusters by rising id. */
function membersByCluster(clusterIds: Int32Array): Map<number, number[]> {
  const members = new Map<number, number[]>();
  clusterIds.forEach((id, position) => {
    if (id === OUTLIER) return;
    const known = members.get(id);
    if (known === undefined) members.set(id, [position]);
    else known.push(position);
  });
  return new Map([...members].sort(([a], [b]) => a - b));
}

function describe(
  { rows, rComp, rIndep }: ClusteredRows,
  cluster: {
    readonly clusterId: number;
    readonly pseudoIdentity: string;
    readonly positions: readonly number[];
  },
): MemoryCluster {
  const { clusterId, pseudoIdentity, positions } = cluster;
  const members = positions.map((position) => rows[position]);
  const cameraIds = [...new Set(members.map((row) => row.cameraId))].sort();
  const times = members.map((row) => row.capturedAtMs);
  return {
    clusterId,
    pseudoIdentity,
    size: members.length,
    cameraIds,
    rComp: least(positions, rComp),
    rIndep: least(positions, rIndep),
    capturedFromMs: times.reduce((a, b) => Math.min(a, b)),
    capturedToMs: times.reduce((a, b) => Math.max(a, b)),
    prototype: meanDirection(members),
  };
}

function least(positions: readonly number[], values: Float32Array): number {
  return positions.reduce((a, at) => Math.min(a, values[at]), Infinity);
}

/** The mean of rows' features, then L2. @returns float32 [D] */
export function meanDirection(members: readonly MemoryRow[]): Float32Array {
  const mean = new Float32Array(members[0].feature.length);
  for (const { feature } of members)
    for (let d = 0; d < mean.length; d++) mean[d] += feature[d];
  return normalizeRows(mean, mean.length);
}

/** Pseudo identity by new cluster id. */
function inherit(
  { rows, clusterIds }: ClusteredRows,
  before: MemoryClustering,
): Map<number, string> {
  const now = new Map(rows.map((row, i) => [row.row, clusterIds[i]]));
  const best = new Map<number, { identity: string; shared: number }>();
  const byId = [...before.clusters].sort((a, b) => a.clusterId - b.clusterId);
  const oldMembers = membersByCluster(before.clusterIds);
  for (const { clusterId, pseudoIdentity } of byId) {
    const positions = oldMembers.get(clusterId) ?? [];
    const present = positions.flatMap(
      (position) => now.get(before.rows[position]) ?? [],
    );
    const counts = new Map<number, number>();
    for (const id of present) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const [id, shared] of counts) {
      const isMajority = id !== OUTLIER && 2 * shared > present.length;
      if (isMajority && shared > (best.get(id)?.shared ?? 0))
        best.set(id, { identity: pseudoIdentity, shared });
    }
  }
  return new Map([...best].map(([id, { identity }]) => [id, identity]));
}
