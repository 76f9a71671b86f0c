import { indexWish } from "./gallery-update.js";
import type { GalleryChanges } from "./gallery-types.js";
import { hnswDefaults, type IndexSpec } from "./index-kinds.js";
import type { ScaledRecord } from "./scaled-records.js";

/** A gallery's record with its changes; a new index becomes `nextIndex`, which a rebuild takes up. */
export function changedScaled(
  record: ScaledRecord,
  { index, ...fields }: GalleryChanges,
  flatBelow: number,
): ScaledRecord {
  const changed: ScaledRecord = { ...record, ...fields };
  if (index === undefined) return changed;
  const { autoIndex: _auto, nextIndex: _next, ...rest } = changed;
  const size = { entries: record.entryCount, flatBelow };
  return { ...rest, ...indexWish(record.index, index, size) };
}

/** What a gallery's index is to be rebuilt to; undefined: it is as it should be. */
export function wantedIndexOf(
  { nextIndex, autoIndex, index, entryCount }: ScaledRecord,
  flatBelow: number,
): IndexSpec | undefined {
  const isOutgrown =
    autoIndex === true && index.kind === "flat" && entryCount >= flatBelow;
  return nextIndex ?? (isOutgrown ? hnswDefaults : undefined);
}
