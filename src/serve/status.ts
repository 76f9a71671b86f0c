import { randomUUID } from "node:crypto";
import { ReidError, type ErrorKind } from "#core/errors";
import type { Log } from "#core/log";
import { encodeStatus, type ErrorDetails } from "./error-details.js";
import type { Failure } from "./generated/reid/v1/Failure.js";

/** gRPC's canonical code of each kind of failure. */
export const statusOf: Readonly<Record<ErrorKind, number>> = {
  cancelled: 1,
  "invalid-argument": 3,
  "deadline-exceeded": 4,
  "not-found": 5,
  "already-exists": 6,
  "permission-denied": 7,
  "resource-exhausted": 8,
  "failed-precondition": 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  "data-loss": 15,
  unauthenticated: 16,
};

/** A failed call as gRPC sends it. */
export interface WireStatus {
  readonly code: number;
  readonly message: string;
  /** google.rpc.ErrorInfo.reason. */
  readonly reason: string;
  /** Bytes of `grpc-status-details-bin`. */
  readonly details: Uint8Array;
  /** When trying again can help; also sent as `grpc-retry-pushback-ms`. */
  readonly retryAfterMs: number | undefined;
}

/** Reasons that a later try can be right for, though the error names no time. */
const RETRY_MS: Readonly<Record<string, number>> = {
  GALLERY_BUSY: 1000,
  STARTING: 1000,
  ENGINE_UNAVAILABLE: 1000,
  NATIVE_BINDING_MISSING: 60_000,
};

/** Facts that never leave the machine: they name its folders and processes. */
const PRIVATE_FACTS = new Set(["folder", "path", "holder", "cause"]);

/** The field that a failed call is about, where its error always speaks of the same. */
const CALL_FIELDS: Readonly<Record<string, string>> = {
  FILTER_EMPTY: "selector.filter",
  REQUEST_ID_REUSED: "request_id",
};

/** Failures for want of something that an operator can grant more of. */
const QUOTAS: ReadonlySet<string> = new Set([
  "GALLERY_FULL",
  "GALLERY_LIMIT",
  "RATE_LIMITED",
  "STORE_FULL",
]);

/** What a ResourceInfo calls the thing that is not there, or there already. */
const RESOURCES: Readonly<Record<string, string>> = {
  gallery: "reid.v1.Gallery",
  entryId: "reid.v1.Entry",
  model: "reid.v1.ModelVersion",
  memory: "reid.v1.Memory",
  clusterId: "reid.v1.Cluster",
  operationId: "reid.v1.Operation",
  backupId: "reid.v1.Backup",
};

/** What a caller is told of a failure; a bug of ours is logged under an id and nothing else is said. */
export function wireStatus(error: unknown, log: Log): WireStatus {
  const known = publicError(error, log);
  const message = publicMessage(known);
  const code = statusOf[known.kind];
  const retryAfterMs = retryAfterOf(known);
  const own = textFact(known, "field");
  const path = own === "" ? (CALL_FIELDS[known.code] ?? "") : own;
  const resource = resourceOf(known);
  const details: ErrorDetails = {
    reason: known.code,
    metadata: metadataOf(known),
    ...(known.kind === "invalid-argument"
      ? { fieldViolations: [{ field: path, description: message }] }
      : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(resource === undefined ? {} : { resource }),
    ...(QUOTAS.has(known.code)
      ? { quota: { subject: known.code, description: message } }
      : {}),
  };
  return {
    code,
    message,
    reason: known.code,
    details: encodeStatus(code, message, details),
    retryAfterMs,
  };
}

/** The same for one item of a batch. */
export function failureFrom(error: unknown, log: Log, field: string): Failure {
  const known = publicError(error, log);
  const own = textFact(known, "field");
  const retryAfterMs = retryAfterOf(known);
  return {
    reason: known.code,
    code: statusOf[known.kind],
    message: publicMessage(known),
    field: own === "" ? field : own,
    metadata: metadataOf(known),
    retryAfter:
      retryAfterMs === undefined
        ? null
        : {
            seconds: String(Math.floor(retryAfterMs / 1000)),
            nanos: (retryAfterMs % 1000) * 1e6,
          },
  };
}

/** A bug of ours as callers see it. */
class InternalError extends ReidError<{ errorId: string }> {
  readonly code = "INTERNAL";
  readonly kind = "internal";

  constructor(errorId: string) {
    super(
      `something went wrong inside the server: look for ${errorId} in its log`,
      { errorId },
    );
  }
}

/** A failure whose words may leave the machine. */
function publicError(error: unknown, log: Log): ReidError {
  if (error instanceof ReidError && error.kind !== "internal") {
    const isLocal = Object.keys(error.facts).some((key) =>
      PRIVATE_FACTS.has(key),
    );
    if (error.cause !== undefined || isLocal)
      log.warn("call failed", { error });
    return error;
  }
  const errorId = randomUUID();
  log.error("call failed unexpectedly", { errorId, error });
  return new InternalError(errorId);
}

/** The message with the name of each private fact in place of its value. */
function publicMessage({ message, facts }: ReidError): string {
  let text = message;
  for (const key of PRIVATE_FACTS) {
    const value = facts[key];
    if (typeof value === "string" && value !== "")
      text = text.replaceAll(value, `[${key}]`);
  }
  return text;
}

function metadataOf(error: ReidError): Record<string, string> {
  return Object.fromEntries(
    Object.entries(error.facts)
      .filter(([key]) => !PRIVATE_FACTS.has(key))
      .map(([key, value]) => [key, String(value)]),
  );
}

function retryAfterOf(error: ReidError): number | undefined {
  const fact = error.facts["retryAfterMs"];
  return typeof fact === "number" ? fact : RETRY_MS[error.code];
}

function resourceOf(
  error: ReidError,
): { readonly type: string; readonly name: string } | undefined {
  const { kind, facts } = error;
  if (kind !== "not-found" && kind !== "already-exists" && kind !== "data-loss")
    return undefined;
  // The most particular fact names the resource: an entry before its gallery.
  const key = Object.keys(RESOURCES)
    .filter((name) => name in facts)
    .at(-1);
  if (key === undefined) return undefined;
  const wanted = "entryId" in facts ? "entryId" : key;
  return { type: RESOURCES[wanted], name: String(facts[wanted]) };
}

function textFact(error: ReidError, name: string): string {
  const value = error.facts[name];
  return typeof value === "string" ? value : "";
}
