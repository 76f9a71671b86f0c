import type { ForgottenRow } from "#index/forgetting";
import { OUTLIER } from "#memory/dbscan";
import {
  meanDirection,
  type MemoryCluster,
  type MemoryClustering,
} from "./online-clusters.js";
import type { MemoryRow } from "./online-rows.js";

/** Which rows are to be forgotten. */
export type IsForgottenRow = (
  row: Pick<MemoryRow, "cameraId" | "trackId" | "cropHashes">,
) => boolean;

/** Rows of the same crop, or of the same camera and track, as an entry that was forgotten. */
export function rowsOfEntries(
  forgotten: readonly ForgottenRow[],
): IsForgottenRow {
  const hashes = new Set(forgotten.flatMap(({ cropHash }) => cropHash ?? []));
  const keys = new Set(
    forgotten
      .filter(({ trackId }) => trackId !== "")
      .map(({ cameraId, trackId }) => `${cameraId}\n${trackId}`),
  );
  return ({ cameraId, trackId, cropHashes }) =>
    keys.has(`${cameraId}\n${trackId}`) ||
    cropHashes.some((hash) => hashes.has(hash));
}

/**
 * A clustering as if some rows had never been in it: prototypes they were part of are means of the rest.
 *
 * What is left of a cluster with one row is an outlier.
 *
 * @param gone   numbers of the rows that were forgotten
 * @param rowAt  the rows that are still in memory
 */
export function withoutRows(
  clustering: MemoryClustering,
  gone: ReadonlySet<number>,
  rowAt: (row: number) => MemoryRow | undefined,
): MemoryClustering {
  const kept = [...clustering.rows.keys()].filter(
    (position) => !gone.has(clustering.rows[position]),
  );
  if (kept.length === clustering.rows.length) return clustering;
  const touched = new Set<number>();
  clustering.rows.forEach((row, position) => {
    if (gone.has(row)) touched.add(clustering.clusterIds[position]);
  });
  touched.delete(OUTLIER);
  const members = new Map<number, MemoryRow[]>();
  for (const position of kept) {
    const clusterId = clustering.clusterIds[position];
    const row = rowAt(clustering.rows[position]);
    if (!touched.has(clusterId) || row === undefined) continue;
    members.set(clusterId, [...(members.get(clusterId) ?? []), row]);
  }
  const clusters = clustering.clusters.flatMap((cluster) =>
    touched.has(cluster.clusterId)
      ? clusterOf(cluster, members.get(cluster.clusterId) ?? [])
      : [cluster],
  );
  const present = new Set(clusters.map(({ clusterId }) => clusterId));
  const clusterIds = Int32Array.from(kept, (position) => {
    const clusterId = clustering.clusterIds[position];
    return present.has(clusterId) ? clusterId : OUTLIER;
  });
  return {
    ...clustering,
    rows: Float64Array.from(kept, (position) => clustering.rows[position]),
    clusterIds,
    pseudoLabels: Int32Array.from(
      kept,
      (position) => clustering.pseudoLabels[position],
    ),
    clusters: clusters.sort(
      (a, b) => b.size - a.size || a.clusterId - b.clusterId,
    ),
    outlierCount: clusterIds.filter((clusterId) => clusterId === OUTLIER)
      .length,
  };
}

function clusterOf(
  cluster: MemoryCluster,
  members: readonly MemoryRow[],
): readonly MemoryCluster[] {
  if (members.length < 2) return [];
  return [
    {
      ...cluster,
      size: members.length,
      cameraIds: [...new Set(members.map(({ cameraId }) => cameraId))].sort(),
      prototype: meanDirection(members),
    },
  ];
}
