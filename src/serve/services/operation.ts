import { requireId, timestamp, wordFrom } from "../fields.js";
import type { ListOperationsRequest__Output } from "../generated/reid/v1/ListOperationsRequest.js";
import type { ListOperationsResponse } from "../generated/reid/v1/ListOperationsResponse.js";
import type { Operation as WireOperation } from "../generated/reid/v1/Operation.js";
import type { OperationServiceHandlers } from "../generated/reid/v1/OperationService.js";
import { operationError, OperationNotFoundError } from "../operations.js";
import type {
  Operation,
  OperationDetail,
  OperationKind,
  OperationState,
} from "../operation-types.js";
import { seesSubject } from "../permissions.js";
import { failureFrom } from "../status.js";
import { unary, type Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serverStream } from "./server-stream.js";
import { watchOperation } from "./watch-operation.js";

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
    GetOperation: unary(
      context,
      "OperationService/GetOperation",
      async (request, call) => {
        const operation = await operationFor(context, request, call);
        return { operation: operationToWire(context, operation) };
      },
    ),
    ListOperations: unary(
      context,
      "OperationService/ListOperations",
      (request, call) => listOperations(context, request, call),
    ),
    WatchOperation: serverStream(
      context,
      "OperationService/WatchOperation",
      async (request, call, send) => {
        const { operationId } = await operationFor(context, request, call);
        await watchOperation(context, operationId, call.signal, (operation) =>
          send({ operation: operationToWire(context, operation) }),
        );
      },
    ),
    CancelOperation: unary(
      context,
      "OperationService/CancelOperation",
      async (request, call) => {
        const { operationId } = await operationFor(context, request, call);
        const operation = await context.operations.cancel(operationId);
        return { operation: operationToWire(context, operation) };
      },
    ),
  };
}

/**
 * The operation that a request names.
 *
 * @throws {FieldInvalidError}
 * @throws {OperationNotFoundError} or it is about a gallery that the caller may not see
 */
async function operationFor(
  { operations }: Pick<ServiceContext, "operations">,
  request: { readonly operationId: string },
  { principal }: Pick<Call, "principal">,
): Promise<Operation> {
  const id = requireId(request.operationId, "operation_id");
  await operations.refresh();
  const operation = operations.get(id);
  if (!seesSubject(principal, operation.subject))
    throw new OperationNotFoundError(id);
  return operation;
}

/** The wire's word of an enum without its prefix, and ours: a table turned round, `UNSPECIFIED` for all. */
function wordsOf<Word extends string>(
  names: Readonly<Record<Word, string | undefined>>,
  prefix: string,
): Readonly<Record<string, Word | undefined>> {
  const words: Record<string, Word | undefined> = { UNSPECIFIED: undefined };
  for (const word of Object.keys(names) as Word[])
    words[(names[word] ?? "").slice(prefix.length + 1)] = word;
  return words;
}

async function listOperations(
  context: ServiceContext,
  request: ListOperationsRequest__Output,
  { principal }: Pick<Call, "principal">,
): Promise<ListOperationsResponse> {
  const { pages, operations, config } = context;
  const kind = wordFrom(
    request.kind,
    "kind",
    "OPERATION_KIND",
    wordsOf(kinds, "OPERATION_KIND"),
  );
  const state = wordFrom(
    request.state,
    "state",
    "OPERATION_STATE",
    wordsOf(states, "OPERATION_STATE"),
  );
  const bound = ["operations", kind ?? null, state ?? null];
  const page = pages.read(request, bound, config.limits.pageSize);
  await operations.refresh();
  const listed = operations
    .list()
    .filter(
      (one) =>
        (kind === undefined || one.kind === kind) &&
        (state === undefined || one.state === state) &&
        seesSubject(principal, one.subject),
    );
  const { items, next } = pages.slice(listed, page, {
    keyOf: ({ createdAtMs, operationId }) => `${createdAtMs}:${operationId}`,
    // Newest first: what was started behind the cursor moves nothing.
    compare: ({ createdAtMs, operationId }, key) => {
      const [at, id] = key.split(":");
      if (createdAtMs !== Number(at)) return Number(at) - createdAtMs;
      return operationId < id ? -1 : operationId > id ? 1 : 0;
    },
  });
  return {
    operations: items.map((one) => operationToWire(context, one)),
    nextPageToken: pages.token(next, bound),
  };
}

function detailToWire(
  detail: OperationDetail,
): Pick<WireOperation, "recluster" | "backup"> {
  switch (detail.kind) {
    case "recluster": {
      const { clustering, clusterCount, outlierCount, eps } = detail;
      return {
        recluster: {
          clustering: String(clustering),
          clusterCount,
          outlierCount,
          eps,
        },
      };
    }
    case "backup": {
      const { backupId, sizeBytes } = detail;
      return { backup: { backupId, sizeBytes: String(sizeBytes) } };
    }
  }
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
    ...(detail === undefined ? {} : detailToWire(detail)),
  };
}
