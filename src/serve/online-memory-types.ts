import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import type { ReidError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";
import type { FindNeighbours } from "./online-neighbours.js";
import type { MemoryRow } from "./online-rows.js";
import type { OperationLog } from "./operations.js";
import type { ModelVersion } from "./registry.js";

/** What GetMemory says. */
export interface MemoryFacts {
  /** The model's name. */
  readonly name: string;
  readonly model: ModelVersion;
  /** D. */
  readonly dimension: number;
  /** `degraded`: the last clustering failed, the one before stays in force. */
  readonly state: "learning" | "clustering" | "degraded";
  /** R. */
  readonly rowCount: number;
  readonly maxRows: number;
  readonly clusterCount: number;
  readonly outlierCount: number;
  /** Number of the last clustering; 0: none yet. */
  readonly clustering: number;
  /** Milliseconds since 1970. */
  readonly clusteredAtMs: number | undefined;
  /** Rows added since the last clustering. */
  readonly newRowCount: number;
  readonly eps: number;
  /** [0, 1]; undefined: too few crops. */
  readonly drift: number | undefined;
  /** Why the last clustering failed. */
  readonly error: ReidError | undefined;
}

/** One row as a clustering has it. */
export interface ClusteredRow extends MemoryRow {
  /** −1: outlier. */
  readonly clusterId: number;
  /** After reliability. */
  readonly pseudoLabel: number;
  /** Empty for outliers. */
  readonly pseudoIdentity: string;
}

/** Which rows of a clustering. */
export interface RowQuery {
  /** Default: the last. */
  readonly clustering?: number | undefined;
  /** −1: outliers; undefined: all. */
  readonly clusterId?: number | undefined;
  /** Rows above this number; default from the first. */
  readonly afterRow?: number | undefined;
  readonly limit: number;
}

/** What a memory needs. */
export interface MemoryOptions {
  readonly model: ModelVersion;
  readonly dimension: number;
  readonly config: Config["memory"];
  readonly store: Store;
  readonly operations: OperationLog;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly log: Log;
  /** Default FAISS. */
  readonly neighbours?: FindNeighbours | undefined;
}
