import { passingRows } from "./filter-walk.js";
import type { EntryPageRequest } from "./gallery-types.js";
import type { GalleryRows, Row } from "./gallery-rows.js";

/**
 * One page of the entries that pass a filter, by sequence: begins where the page before ended, and looks no farther
 * than it must. The rows must not change until it is done.
 *
 * @param nowUs  entries that expire by then are left out
 * @returns      `isLast`: nothing that passes is behind them
 */
export async function listRows(
  rows: GalleryRows,
  { filter, afterSequence = 0, pageSize }: Omit<EntryPageRequest, "view">,
  nowUs: number,
): Promise<{ readonly rows: readonly Row[]; readonly isLast: boolean }> {
  const found: Row[] = [];
  const walk = passingRows(rows, filter === undefined ? [] : [filter], {
    nowUs,
    afterSequence,
  });
  for await (const { count, row } of walk)
    for (let i = 0; i < count; i++) {
      if (found.length === pageSize) return { rows: found, isLast: false };
      found.push(row(i));
    }
  return { rows: found, isLast: true };
}
