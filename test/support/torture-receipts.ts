import type { Store } from "#core/store";
import { galleryTables, keysOfGallery } from "#index/gallery-records";

import { receiptsTable } from "./torture-plan.js";

/** The mark that an update leaves on entries, as their track: it has no receipt in its transaction. */
export function markOf(lane: number, step: number): string {
  return `updated-${lane}-${step}`;
}

/**
 * Each lane's last write that a store holds: its step, by lane.
 *
 * Of updates it knows those that chose an entry which is still as the update left it.
 */
export function receiptsIn(store: Store): Readonly<Record<string, number>> {
  const receipts: Record<string, number> = {};
  for (const { key, value } of store
    .table<number>(receiptsTable, "data")
    .range())
    receipts[String(key)] = value;
  const tables = galleryTables(store);
  for (const { value: gallery } of [...tables.galleries.range()])
    for (const { value } of tables.entries.range(
      keysOfGallery(gallery.number),
    )) {
      const [, lane, step] = /^updated-(\d+)-(\d+)$/.exec(value.trackId) ?? [];
      if (lane !== undefined)
        receipts[lane] = Math.max(receipts[lane] ?? 0, Number(step));
    }
  return receipts;
}
