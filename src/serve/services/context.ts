import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import type { Log } from "#core/log";
import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";
import type { Galleries } from "#index/galleries";
import type { RequestLog } from "#index/request-log";
import type { Access } from "../auth.js";
import type { Backups } from "../backups.js";
import type { CropHashes } from "../crop-hashes.js";
import type { CallCounter } from "../drain.js";
import type { Inference } from "../inference.js";
import type { InTurn } from "../lanes.js";
import type { OnlineMode } from "../online.js";
import type { OperationLog } from "../operations.js";
import type { Pages } from "../pages.js";
import type { RecallMonitor } from "../recall-monitor.js";
import type { Rebuilds } from "../rebuilds.js";
import type { ModelRegistry } from "../registry.js";
import type { Reranker } from "../reranker.js";

/** What the services share; opened and closed by the server. */
export interface ServiceContext {
  readonly config: Config;
  readonly access: Access;
  readonly registry: ModelRegistry;
  readonly inference: Inference;
  readonly cropHashes: CropHashes;
  readonly reranker: Reranker;
  /** Undefined: an exact search would cost the database too much. */
  readonly recall: RecallMonitor | undefined;
  readonly galleries: Galleries;
  /** Of calls whose writes are no gallery's, such as operations. */
  readonly requests: RequestLog;
  /** Decisions that may enrol, by gallery. */
  readonly decisions: InTurn;
  readonly store: Store;
  readonly operations: OperationLog;
  readonly rebuilds: Rebuilds;
  readonly backups: Backups;
  /** Undefined: the server runs without `--online`. */
  readonly online: OnlineMode | undefined;
  readonly pages: Pages;
  readonly clock: Clock;
  readonly log: Log;
  readonly telemetry: Telemetry;
  /** New at each start. */
  readonly instanceId: string;
  readonly startedAtMs: number;
  readonly version: string;
  /** Devices that encoders run on. */
  readonly devices: () => readonly string[];
  readonly calls: CallCounter;
  /** Aborted when the server begins to end: streams answer what they have taken, and end. */
  readonly draining: AbortSignal;
  /** Aborted with a ShuttingDownError when the time for work in flight is over. */
  readonly shutdown: AbortSignal;
}
