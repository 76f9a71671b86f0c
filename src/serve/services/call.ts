import {
  Metadata,
  status as grpcStatus,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerDuplexStream,
  type StatusObject,
} from "@grpc/grpc-js";
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { ClosedError, ReidError } from "#core/errors";
import type { Principal } from "../auth.js";
import { MessageTooLargeError, ShuttingDownError } from "../errors.js";
import { CancelledError, DeadlineError } from "../inference-errors.js";
import { permit, requireRole } from "../permissions.js";
import {
  MAX_DEADLINE_MS,
  rpcs,
  unsupportedRpc,
  type RpcName,
  type RpcRequest,
} from "../rpcs.js";
import { wireStatus } from "../status.js";
import type { ServiceContext } from "./context.js";
import { callerOf, type AuthenticatedCall } from "./credentials.js";
import { serializeResponse } from "./definitions.js";

/** So long before a deadline, at most a fifth of the time, it is over here: the caller can still be told at which stage. */
const EARLY_MS = 20;
/** What a handler gets to stop in, and to say where it was. */
const STOP_MS = 5;

/** Failures by which a call is denied to its caller. */
const DENIALS: ReadonlySet<string> = new Set([
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "RATE_LIMITED",
]);

/** What a handler may know of its call. */
export interface Call {
  /** Who makes it. */
  readonly principal: Principal;
  /** Aborts on cancellation, at the deadline, and when the server's grace is over. */
  readonly signal: AbortSignal;
  /** What is left of the deadline now, ms; Infinity on streams without one. */
  remainingMs(): number;
}

type AnyCall = AuthenticatedCall &
  (
    | Pick<
        ServerUnaryCall<unknown, unknown>,
        "getDeadline" | "on" | "sendMetadata"
      >
    | Pick<
        ServerDuplexStream<unknown, unknown>,
        "getDeadline" | "on" | "sendMetadata"
      >
  );

/**
 * Wraps a unary handler: permission, deadline, cancellation, metadata, status with details, metrics.
 *
 * @param handler  answers with a message or its bytes, or throws a ReidError that becomes the call's status
 */
export function unary<Name extends RpcName, Response extends object>(
  context: ServiceContext,
  name: Name,
  handler: (
    request: RpcRequest<Name>,
    call: Call,
  ) => Promise<Response | Buffer> | Response,
): handleUnaryCall<RpcRequest<Name>, Response> {
  return (grpcCall, callback) => {
    const call = openCall(context, name, grpcCall, {
      request: grpcCall.request,
      refuse: callback,
    });
    if (call === undefined) return;
    const run = async () => {
      const response = await handler(grpcCall.request, call);
      if (call.signal.aborted) throw abortReason(call.signal, name);
      const bytes = Buffer.isBuffer(response)
        ? response
        : serializeResponse(name, response);
      const { responseBytes } = context.config.limits;
      if (bytes.length > responseBytes)
        throw new MessageTooLargeError(bytes.length, responseBytes);
      return bytes;
    };
    const work = run();
    Promise.race([work, overdue(context, call, work)]).then(
      (bytes) => {
        call.finish(undefined);
        // `servedDefinition` sends bytes as they are; gRPC's types know messages only.
        callback(null, bytes as unknown as Response);
      },
      (error: unknown) => callback(call.finish(error)),
    );
  };
}

/**
 * Rejects a while after the call was aborted: a handler that cannot stop at once keeps nobody waiting.
 *
 * The server does not end before the work does.
 */
function overdue(
  { calls }: ServiceContext,
  { signal }: Call,
  work: Promise<unknown>,
): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener("abort", () =>
      setTimeout(() => {
        const leave = calls.enter();
        work.then(leave, leave);
        reject(signal.reason as Error);
      }, STOP_MS),
    ),
  );
}

/** A call under way. */
export interface OpenCall<Name extends RpcName> extends Call {
  /**
   * Looks whether the caller may make the request of a stream, which comes after its beginning.
   *
   * @throws {PermissionDeniedError} @throws {UnauthenticatedError}
   */
  permit(request: RpcRequest<Name>): void;
  /** Ends timers and metrics; gives the status of a failure. */
  finish(error: unknown): Partial<StatusObject>;
}

/** How a call begins. */
export interface Opening<Name extends RpcName> {
  /** Undefined: it is among the messages of a stream. */
  readonly request?: RpcRequest<Name>;
  /** Ends a call that is denied, with this status. */
  readonly refuse: (status: Partial<StatusObject>) => void;
}

/**
 * Starts deadline, cancellation and metrics of a call, and sends the metadata that every call gets.
 *
 * No field of a request counts before its caller may make it: who that is, what is allowed, how many calls there were.
 *
 * @returns undefined where the call is denied, and has been told so
 */
export function openCall<Name extends RpcName>(
  context: ServiceContext,
  name: Name,
  grpcCall: AnyCall,
  { request, refuse }: Opening<Name>,
): OpenCall<Name> | undefined {
  const { access, clock, config, telemetry, shutdown } = context;
  const started = clock.monotonic();
  const requestId = randomUUID();
  grpcCall.sendMetadata(greeting(context, requestId));
  const leave = context.calls.enter();

  const abort = new AbortController();
  // Every crop of the call listens to it.
  setMaxListeners(0, abort.signal);
  const endMs = started + allowedMs(context, name, grpcCall);
  const expire = () => abort.abort(deadlineReason());
  const leftMs = endMs - started;
  const timer = Number.isFinite(endMs)
    ? setTimeout(expire, leftMs - Math.min(EARLY_MS, leftMs / 5))
    : undefined;
  // grpc-js reports a deadline that passed as a cancellation, sometimes a moment before our own timer.
  let isFinished = false;
  grpcCall.on("cancelled", () => {
    // It says so of every call that has ended, too.
    if (isFinished) return;
    if (clock.monotonic() >= endMs - 5) expire();
    else abort.abort(new CancelledError("call"));
  });
  const onShutdown = () => abort.abort(shutdown.reason);
  shutdown.addEventListener("abort", onShutdown);

  let principal: Principal | undefined;
  let asked = request;
  const authorize = () => {
    principal = callerOf(access, grpcCall);
    requireRole(principal, name);
    if (asked !== undefined) permit(principal, name, asked, config.auth);
    return principal;
  };
  const reauthorize = () => {
    try {
      authorize();
    } catch (error) {
      abort.abort(error);
    }
  };
  // A stream outlives what its caller was allowed when it began.
  const isStream = rpcs[name].deadlineMs === undefined;
  const unwatch = isStream ? access.watch(reauthorize) : undefined;

  const finish = (error: unknown): Partial<StatusObject> => {
    isFinished = true;
    clearTimeout(timer);
    leave();
    unwatch?.();
    shutdown.removeEventListener("abort", onShutdown);
    const log = context.log.child({ request: requestId, rpc: name });
    const failure =
      error === undefined
        ? undefined
        : wireStatus(
            error instanceof ClosedError && context.draining.aborted
              ? new ShuttingDownError()
              : publicReason(error, abort.signal, name),
            log,
          );
    telemetry.record(
      "rpc.server.call.duration",
      (clock.monotonic() - started) / 1000,
      {
        "rpc.system.name": "grpc",
        "rpc.method": `reid.v1.${name}`,
        "rpc.response.status_code": statusName(failure?.code ?? 0),
        ...(failure === undefined ? {} : { "error.type": failure.reason }),
      },
    );
    if (failure === undefined) return {};
    const { reason } = failure;
    if (DENIALS.has(reason)) {
      telemetry.add("reid.denied", 1, { reason });
      log.debug("call denied", { reason, principal: principal?.name });
    }
    return statusObject(failure);
  };

  try {
    const caller = authorize();
    access.spend(caller);
    return {
      principal: caller,
      signal: abort.signal,
      remainingMs: () => endMs - clock.monotonic(),
      permit: (message) => {
        asked = message;
        authorize();
      },
      finish,
    };
  } catch (error) {
    refuse(finish(error));
    return undefined;
  }
}

/** The metadata that every call gets. */
export function greeting(
  { instanceId }: Pick<ServiceContext, "instanceId">,
  requestId: string = randomUUID(),
): Metadata {
  const metadata = new Metadata();
  metadata.set("reid-request", requestId);
  metadata.set("reid-instance", instanceId);
  return metadata;
}

/** A failure as gRPC for Node sends it. */
export function statusObject(failure: ReturnType<typeof wireStatus>): {
  code: number;
  details: string;
  metadata: Metadata;
} {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(failure.details));
  if (failure.retryAfterMs !== undefined)
    metadata.set("grpc-retry-pushback-ms", String(failure.retryAfterMs));
  return { code: failure.code, details: failure.message, metadata };
}

/** The index says CANCELLED for any abort; what the abort was for is said by the signal. */
function publicReason(
  error: unknown,
  signal: AbortSignal,
  name: RpcName,
): unknown {
  if (!signal.aborted) return error;
  if (error === signal.reason) return abortReason(signal, name);
  const isAbort = error instanceof ReidError && error.kind === "cancelled";
  return isAbort ? abortReason(signal, name, error) : error;
}

/** @param error  says at which stage it was, where it is known better than that reads search and writes commit */
function abortReason(
  signal: AbortSignal,
  name: RpcName,
  error?: ReidError,
): unknown {
  const reason: unknown = signal.reason;
  const isTimeout = reason instanceof Error && reason.name === "TimeoutError";
  const stage = error?.facts["stage"];
  const usual = rpcs[name].role === "reader" ? "search" : "commit";
  return isTimeout
    ? new DeadlineError(typeof stage === "string" ? stage : usual)
    : reason;
}

function deadlineReason(): DOMException {
  return new DOMException("deadline", "TimeoutError");
}

function allowedMs(
  context: ServiceContext,
  name: RpcName,
  grpcCall: Pick<AnyCall, "getDeadline">,
): number {
  const { deadlineMs } = rpcs[name];
  const deadline = grpcCall.getDeadline();
  const end = typeof deadline === "number" ? deadline : deadline.getTime();
  const asked = end - context.clock.now();
  if (deadlineMs === undefined) return asked;
  return Number.isFinite(asked) ? Math.min(asked, MAX_DEADLINE_MS) : deadlineMs;
}

function statusName(code: number): string {
  return grpcStatus[code] ?? String(code);
}

/** A unary RPC that this server does not serve; its message says what to use instead. */
export function rejectUnary<Name extends RpcName, Response extends object>(
  context: ServiceContext,
  name: Name,
): handleUnaryCall<RpcRequest<Name>, Response> {
  return unary<Name, Response>(context, name, () => {
    throw unsupportedRpc(name);
  });
}

/** The same for an RPC that answers with a stream. */
export function rejectStream<Name extends RpcName>(
  context: ServiceContext,
  name: Name,
): (
  stream: AnyCall & {
    readonly request: RpcRequest<Name>;
    emit(event: "error", error: unknown): boolean;
  },
) => void {
  return (stream) => {
    const call = openCall(context, name, stream, {
      request: stream.request,
      refuse: (status) => stream.emit("error", status),
    });
    if (call === undefined) return;
    stream.emit("error", call.finish(unsupportedRpc(name)));
  };
}
