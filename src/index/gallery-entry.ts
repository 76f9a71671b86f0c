import {
  featureFromBytes,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { Row } from "./gallery-rows.js";
import type { Entry, EntryView } from "./gallery-types.js";

/**
 * An entry as reads return it: its row, and what the view adds from the store.
 *
 * @returns feature and crop are copies, the caller's own
 */
export function entryOf(
  row: Row,
  view: EntryView,
  {
    tables,
    number,
  }: { readonly tables: GalleryTables } & Pick<GalleryRecord, "number">,
): Entry {
  const { hasCrop, attributes, capturedAtUs, expiresAtUs, ...rest } = row;
  const key = [number, row.sequence];
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
