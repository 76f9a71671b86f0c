import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  writeContactSheet,
  type ContactSheetOptions,
} from "./data/synthetic/contact-sheet.js";
import { renderDomain } from "./data/synthetic/render.js";
import type {
  RenderOptions,
  RenderSummary,
  SyntheticDomain,
} from "./data/synthetic/render-options.js";

export { renderDomain, writeContactSheet };
export type {
  ContactSheetOptions,
  RenderOptions,
  RenderSummary,
  SyntheticDomain,
};

/**
 * Crops of a rendered or other Market-1501 training folder for a sheet: one identity a row.
 *
 * @param folder   the data set's
 * @param rows     identities, the first in byte order
 * @param columns  crops of each, evenly spread over what there is of it
 * @returns        paths, row by row
 */
export async function sheetCrops(
  folder: string,
  rows: number,
  columns: number,
): Promise<string[]> {
  const train = join(folder, "bounding_box_train");
  const names = (await readdir(train))
    .filter((name) => name.endsWith(".jpg"))
    .sort();
  const identities = new Map<string, string[]>();
  for (const name of names) {
    const person = name.split("_")[0];
    const crops = identities.get(person) ?? [];
    crops.push(join(train, name));
    identities.set(person, crops);
  }
  return [...identities.values()]
    .slice(0, rows)
    .flatMap((crops) =>
      Array.from(
        { length: columns },
        (_, i) => crops[Math.floor((i * crops.length) / columns)],
      ),
    );
}
