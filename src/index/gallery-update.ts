import type { GalleryRecord } from "./gallery-records.js";
import type { GalleryChanges } from "./gallery-types.js";
import { flatSpec, hnswDefaults, type IndexSpec } from "./index-kinds.js";

/** What an automatic index is chosen by. */
export interface GallerySize {
  readonly entries: number;
  /** Flat below so many. */
  readonly flatBelow: number;
}

/** The index a gallery of this size has where nobody named one. */
export function automaticIndex({ entries, flatBelow }: GallerySize): IndexSpec {
  return entries < flatBelow ? flatSpec : hnswDefaults;
}

/** A gallery's record with its changes; a new index becomes `nextIndex`, which a rebuild takes up. */
export function changedRecord(
  record: GalleryRecord,
  changes: GalleryChanges,
  size: GallerySize,
): GalleryRecord {
  const { index, defaultTtlMs, ...fields } = changes;
  const changed: GalleryRecord = {
    ...record,
    ...fields,
    ...(defaultTtlMs === undefined
      ? {}
      : { defaultTtlMs: defaultTtlMs ?? undefined }),
  };
  if (index === undefined) return changed;
  const { autoIndex: _auto, nextIndex: _next, ...rest } = changed;
  const next = index === "auto" ? automaticIndex(size) : index;
  const isSame = JSON.stringify(next) === JSON.stringify(record.index);
  return {
    ...rest,
    ...(index === "auto" ? { autoIndex: true } : {}),
    ...(isSame ? {} : { nextIndex: next }),
  };
}
