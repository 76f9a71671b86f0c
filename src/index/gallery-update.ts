import { isDeepStrictEqual } from "node:util";

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
  return { ...rest, ...indexWish(record.index, index, size) };
}

/** What a record says of the index that it is to have, beside the one that it has. */
export function indexWish(
  present: IndexSpec,
  wanted: IndexSpec | "auto",
  size: GallerySize,
): { readonly autoIndex?: true; readonly nextIndex?: IndexSpec } {
  const next = wanted === "auto" ? automaticIndex(size) : wanted;
  // Not by its text: PostgreSQL keeps the keys of JSON in an order of its own.
  const isSame = isDeepStrictEqual(next, present);
  return {
    ...(wanted === "auto" ? { autoIndex: true } : {}),
    ...(isSame ? {} : { nextIndex: next }),
  };
}
