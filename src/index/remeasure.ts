import { dot } from "#core/vectors";

import type { Found, GalleryIndex } from "./gallery-index.js";
import {
  featureFromBytes,
  soundValue,
  type GalleryTables,
} from "./gallery-records.js";
import { isLossy } from "./index-kinds.js";
import { Turns } from "./turns.js";

/** The feature of an entry as it was enrolled; undefined where it is gone. */
export type FeatureSource = (id: number) => Float32Array | undefined;

// Features read from the store in one turn of the main thread: a few microseconds each.
const measuredAtOnce = 64;

/** A gallery's features in the store. */
interface StoredFeatures {
  readonly tables: GalleryTables;
  /** The gallery's. */
  readonly number: number;
}

/** Reads them one by one. */
export function storedFeatures({
  tables,
  number,
}: StoredFeatures): FeatureSource {
  return (id) => {
    const bytes = soundValue(tables.features, [number, id]);
    return bytes === undefined ? undefined : featureFromBytes(bytes);
  };
}

/** float32 [N, D] as they were enrolled: from the index where it keeps them so, else from the store; NaN where gone. */
export async function enrolledFeatures(
  ids: Float64Array,
  source: StoredFeatures & { readonly index: GalleryIndex },
): Promise<Float32Array> {
  const { index } = source;
  if (!isLossy(index.main.spec)) return index.features(ids);
  const features = storedFeatures(source);
  const { dimension } = index.main;
  const rows = new Float32Array(ids.length * dimension).fill(NaN);
  const turns = new Turns(measuredAtOnce);
  for (const [i, id] of ids.entries()) {
    const feature = features(id);
    if (feature !== undefined) rows.set(feature, i * dimension);
    if (turns.isOver) await turns.next();
  }
  return rows;
}

/** How many times as many as were asked for are measured again, of an index that does not keep float32. */
export const oversampled = 4;

/** What was found for one query, by the features themselves. */
export interface Remeasured extends Found {
  /** No entry that was left out can be among the k nearest. */
  readonly isCertain: boolean;
}

/**
 * Measures again, in float32, what an index found by codes that only stand for the features.
 *
 * With ‖x − x̂‖ ≤ e for every code, an entry that was not found has a similarity of at most that of the last one
 * found, plus e: if the k-th by the features is above that, the k nearest are the true ones.
 *
 * @param found   by the index, falling; at least k where there are as many
 * @param query   float32 [D], of unit length
 * @param bounds  `error`: e; `k`; `isAll`: there are no others
 */
export async function remeasure(
  found: Found,
  query: Float32Array,
  features: FeatureSource,
  bounds: {
    readonly error: number;
    readonly k: number;
    readonly isAll: boolean;
  },
): Promise<Remeasured> {
  const turns = new Turns(measuredAtOnce);
  const measured: { id: number; similarity: number }[] = [];
  for (const id of found.ids) {
    const feature = features(id);
    if (feature !== undefined)
      measured.push({ id, similarity: dot(query, feature) });
    if (turns.isOver) await turns.next();
  }
  measured.sort((a, b) => b.similarity - a.similarity || a.id - b.id);
  const last = found.similarities.at(-1) ?? -Infinity;
  const kth = measured[bounds.k - 1]?.similarity ?? -Infinity;
  return {
    ids: measured.map(({ id }) => id),
    similarities: measured.map(({ similarity }) => similarity),
    isCertain: bounds.isAll || kth > last + bounds.error,
  };
}
