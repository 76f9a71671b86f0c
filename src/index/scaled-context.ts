import type { Clock } from "#core/clock";
import type { Log } from "#core/log";
import type { Postgres } from "#core/postgres";

import type { Milvus } from "./milvus.js";
import type { ScaledOutbox } from "./scaled-outbox.js";

/** What every gallery on Milvus and PostgreSQL shares. */
export interface ScaledContext {
  readonly postgres: Postgres;
  readonly milvus: Milvus;
  readonly outbox: ScaledOutbox;
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
  /** Part of the collections' names. */
  readonly deployment: string;
  /** Filtered searches with fewer survivors compare with every survivor. */
  readonly exactBelow: number;
  /** Entries that Milvus may lack before writes slow down. */
  readonly tail: number;
  /** An automatic index is flat below so many entries. */
  readonly flatBelow: number;
  /** Told that a gallery with an automatic index has outgrown it. */
  readonly onOutgrown: (gallery: string) => void;
  readonly onExpire: (gallery: string, entries: number) => void;
  readonly newEntryId: () => string;
}
