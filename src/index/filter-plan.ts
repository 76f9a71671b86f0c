import type { IndexSpec } from "./index-kinds.js";

/** A filtered search, as far as its cost goes. */
export interface FilteredSearch {
  readonly spec: IndexSpec;
  /** Entries that are searched. */
  readonly entries: number;
  /** Entries that the filter leaves. */
  readonly survivors: number;
  /** Hits asked of the index for each query. */
  readonly k: number;
  /** efSearch of this search; undefined: the index's. */
  readonly effort: number | undefined;
  /** Setting `search.exact_below`; 0: only what comes back short is searched exactly. */
  readonly exactBelow: number;
}

/**
 * Survivors that a scan compares in the time in which a walk looks at one link: a scan reads in order, the walk a row
 * here and a row there. Measured on 100,000 × 512 (docs/performance.md, "Under a filter").
 */
const scannedInALink = 2.3;

/** How much longer than the walk a scan may take, for hits that are all there. */
const worthOfExact = 2;

/**
 * Whether comparing with every survivor is the better way.
 *
 * A walk through a graph passes 1 / share of the filter nodes for each that it may keep, at the same recall; so the
 * fewer are left, the more it costs, and the less a scan does.
 */
export function isScanBetter({
  spec,
  entries,
  survivors,
  k,
  effort,
  exactBelow,
}: FilteredSearch): boolean {
  if (survivors < exactBelow) return true;
  if (spec.kind !== "hnsw" || exactBelow === 0) return false;
  const kept = Math.max(effort ?? spec.efSearch, k);
  const links = ((kept * entries) / survivors) * 2 * spec.m;
  return survivors < worthOfExact * scannedInALink * links;
}
