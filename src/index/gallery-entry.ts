import {
  featureFromBytes,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { Row } from "./gallery-rows.js";
import type { GalleryIndex } from "./gallery-index.js";
import { enrolledFeatures } from "./remeasure.js";
import type { RankedRows } from "./gallery-search.js";
import type {
  Entry,
  EntryView,
  Hit,
  QueryHits,
  SearchRequest,
} from "./gallery-types.js";
import { Turns } from "./turns.js";

/** Where entries are stored. */
export type EntrySource = { readonly tables: GalleryTables } & Pick<
  GalleryRecord,
  "number"
>;

/**
 * An entry as reads return it: its row, and what the view adds from the store.
 *
 * @returns feature and crop are copies, the caller's own
 */
export function entryOf(
  row: Row,
  view: EntryView,
  { tables, number }: EntrySource,
): Entry {
  const { hasCrop, attributes, capturedAtUs, expiresAtUs, featureId, ...rest } =
    row;
  const key = [number, featureId];
  const feature = view === "feature" ? tables.features.get(key) : undefined;
  const crop = view === "crop" && hasCrop ? tables.crops.get(key) : undefined;
  return {
    ...rest,
    attributes: view === "basic" ? {} : attributes,
    ...(capturedAtUs === undefined ? {} : { capturedAtUs }),
    ...(expiresAtUs === undefined ? {} : { expiresAtUs }),
    ...(feature === undefined ? {} : { feature: featureFromBytes(feature) }),
    ...(crop === undefined ? {} : { crop }),
  };
}

/** Hits made in one turn of the main thread. */
const hitsAtOnce = 256;

/** What a search found, as it answers, made in turns. @returns [Q] */
export async function hitsOf(
  found: readonly RankedRows[],
  { view = "basic", withFeatures = false }: SearchRequest,
  source: EntrySource & { readonly index: GalleryIndex },
): Promise<readonly QueryHits[]> {
  const results: QueryHits[] = [];
  const turns = new Turns(hitsAtOnce);
  for (const { rows, exact } of found) {
    const hits: Hit[] = [];
    for (const { row, similarity } of rows) {
      hits.push({ entry: entryOf(row, view, source), similarity });
      if (turns.isOver) await turns.next();
    }
    if (!withFeatures) results.push({ hits, exact });
    else {
      const ids = Float64Array.from(rows, ({ row }) => row.featureId);
      const features = await enrolledFeatures(ids, source);
      results.push({ hits, exact, features });
    }
  }
  return results;
}
