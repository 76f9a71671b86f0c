import type { ErrorData } from "#core/errors";
import type { Writer } from "#core/store";

/** What a long work is about. */
export type OperationKind =
  "migration" | "rebuild" | "recluster" | "snapshot" | "backup" | "restore";

/** How far it is. */
export type OperationState = "running" | "succeeded" | "failed" | "cancelled";

/** What a clustering operation made. */
export interface ReclusterDetail {
  readonly kind: "recluster";
  readonly clustering: number;
  readonly clusterCount: number;
  readonly outlierCount: number;
  readonly eps: number;
}

/** What a backup or a restore is about. */
export interface BackupDetail {
  readonly kind: "backup";
  readonly backupId: string;
  /** Of all its files; 0: not known yet. */
  readonly sizeBytes: number;
}

/** What an operation says beyond its counts. */
export type OperationDetail = ReclusterDetail | BackupDetail;

/** One long work, as it is now. Times are milliseconds since 1970. */
export interface Operation {
  readonly operationId: string;
  readonly kind: OperationKind;
  readonly state: OperationState;
  /** `gallery/<name>`, `memory/<name>` or `backup/<id>`. */
  readonly subject: string;
  readonly doneCount: number;
  /** 0: not known. */
  readonly totalCount: number;
  readonly createdAtMs: number;
  readonly progressedAtMs: number;
  readonly finishedAtMs: number | undefined;
  readonly error: ErrorData | undefined;
  readonly detail: OperationDetail | undefined;
}

/** What the work itself may say. */
export interface OperationProgress {
  readonly operationId: string;
  /** Aborted by `cancel`, and when the server ends. */
  readonly signal: AbortSignal;
  report(doneCount: number, totalCount: number): void;
}

/** The work itself: gives the detail of its success, rejects where it fails or was cancelled. */
export type OperationWork = (
  progress: OperationProgress,
) => Promise<OperationDetail | undefined>;

/** Kinds of work that a restart goes on with, and how; what has no row fails as interrupted. */
export type Resumers = Readonly<
  Partial<Record<OperationKind, (operation: Operation) => OperationWork>>
>;

/** Puts what belongs to a new operation into the transaction that makes it. */
export type WithOperation = (writer: Writer, operation: Operation) => void;
