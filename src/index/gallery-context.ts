import type { Clock } from "#core/clock";
import type { Log } from "#core/log";
import type { Store } from "#core/store";

import type { IndexFactory } from "./gallery-index.js";
import type { GalleryTables } from "./gallery-records.js";

/** What every gallery of a data folder shares. */
export interface GalleryContext {
  readonly store: Store;
  readonly tables: GalleryTables;
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
  readonly factory: IndexFactory;
  /** Whether indexes can be saved and loaded: not without the addon. */
  readonly hasSnapshots: boolean;
  readonly exactBelow: number;
  readonly tail: number;
  /** An automatic index is flat below so many entries. */
  readonly flatBelow: number;
  /** Told that a gallery wants another index than it has. */
  readonly onOutgrown: (gallery: string) => void;
  readonly onExpire: (gallery: string, entries: number) => void;
  readonly newEntryId: () => string;
}
