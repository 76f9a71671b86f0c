import type { Postgres } from "#core/postgres";

import type { GallerySettings } from "./gallery-settings.js";
import type { Milvus } from "./milvus.js";
import type { Places } from "./places.js";
import type { ScaledCollections } from "./scaled-collections.js";
import type { ScaledOutbox } from "./scaled-outbox.js";

/** What every gallery on Milvus and PostgreSQL shares. */
export interface ScaledContext extends GallerySettings {
  readonly postgres: Postgres;
  readonly milvus: Milvus;
  readonly outbox: ScaledOutbox;
  readonly collections: ScaledCollections;
  /** Of searches, and of galleries that are made: each holds a connection while it waits for Milvus. */
  readonly searches: Places;
  /** Part of the collections' names. */
  readonly deployment: string;
}
