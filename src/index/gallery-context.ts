import type { Store } from "#core/store";

import type { IndexFactory } from "./gallery-index.js";
import type { GalleryTables } from "./gallery-records.js";
import type { GallerySettings } from "./gallery-settings.js";

/** What every gallery of a data folder shares. */
export interface GalleryContext extends GallerySettings {
  readonly store: Store;
  readonly tables: GalleryTables;
  readonly factory: IndexFactory;
  /** Whether indexes can be saved and loaded: not without the addon. */
  readonly hasSnapshots: boolean;
}
