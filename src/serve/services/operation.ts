import { requireId, timestamp } from "../fields.js";
import type { Operation as WireOperation } from "../generated/reid/v1/Operation.js";
import type { OperationServiceHandlers } from "../generated/reid/v1/OperationService.js";
import {
  operationError,
  type Operation,
  type OperationKind,
  type OperationState,
} from "../operations.js";
import { failureFrom } from "../status.js";
import { rejectStream, rejectUnary, unary } from "./call.js";
import type { ServiceContext } from "./context.js";

const kinds: Readonly<
  Record<OperationKind, Exclude<WireOperation["kind"], number | undefined>>
> = {
  migration: "OPERATION_KIND_MIGRATION",
  rebuild: "OPERATION_KIND_REBUILD",
  recluster: "OPERATION_KIND_RECLUSTER",
  snapshot: "OPERATION_KIND_SNAPSHOT",
  backup: "OPERATION_KIND_BACKUP",
  restore: "OPERATION_KIND_RESTORE",
};

const states: Readonly<
  Record<OperationState, Exclude<WireOperation["state"], number | undefined>>
> = {
  running: "OPERATION_STATE_RUNNING",
  succeeded: "OPERATION_STATE_SUCCEEDED",
  failed: "OPERATION_STATE_FAILED",
  cancelled: "OPERATION_STATE_CANCELLED",
};

/** Handlers of OperationService. */
export function operationService(
  context: ServiceContext,
): OperationServiceHandlers {
  return {
    GetOperation: unary(context, "OperationService/GetOperation", (request) => {
      const id = requireId(request.operationId, "operation_id");
      return {
        operation: operationToWire(context, context.operations.get(id)),
      };
    }),
    ListOperations: rejectUnary(context, "OperationService/ListOperations"),
    WatchOperation: rejectStream(context, "OperationService/WatchOperation"),
    CancelOperation: rejectUnary(context, "OperationService/CancelOperation"),
  };
}

/** An operation as the wire has it. */
export function operationToWire(
  context: ServiceContext,
  operation: Operation,
): WireOperation {
  const { detail, finishedAtMs } = operation;
  const error = operationError(operation);
  return {
    operationId: operation.operationId,
    kind: kinds[operation.kind],
    state: states[operation.state],
    subject: operation.subject,
    doneCount: String(operation.doneCount),
    totalCount: String(operation.totalCount),
    createdAt: timestamp(operation.createdAtMs * 1000),
    progressedAt: timestamp(operation.progressedAtMs * 1000),
    finishedAt: timestamp(
      finishedAtMs === undefined ? undefined : finishedAtMs * 1000,
    ),
    error: error === undefined ? null : failureFrom(error, context.log, ""),
    ...(detail === undefined
      ? {}
      : {
          recluster: {
            clustering: String(detail.clustering),
            clusterCount: detail.clusterCount,
            outlierCount: detail.outlierCount,
            eps: detail.eps,
          },
        }),
  };
}
