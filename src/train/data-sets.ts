import type { DataSet, ReadOptions } from "./data/data-set.js";
import { readMarket1501 } from "./data/market1501.js";
import type { DataFormat } from "./settings.js";

/** Reads a folder of one layout. */
export type DataSetReader = (
  folder: string,
  options: ReadOptions,
) => Promise<DataSet>;

/** The layouts by name. */
export const dataFormats: Readonly<Record<DataFormat, DataSetReader>> = {
  market1501: readMarket1501,
};
