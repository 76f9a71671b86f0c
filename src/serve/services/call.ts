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
import { MessageTooLargeError, ShuttingDownError } from "../errors.js";
import { CancelledError, DeadlineError } from "../inference-errors.js";
import {
  MAX_DEADLINE_MS,
  rpcs,
  unsupportedRpc,
  type RpcName,
} from "../rpcs.js";
import { wireStatus } from "../status.js";
import type { ServiceContext } from "./context.js";
import { serializeResponse } from "./definitions.js";

/** So long before a deadline, at most a fifth of the time, it is over here: the caller can still be told at which stage. */
const EARLY_MS = 20;
/** What a handler gets to stop in, and to say where it was. */
const STOP_MS = 5;

/** What a handler may know of its call. */
export interface Call {
  /** Aborts on cancellation, at the deadline, and when the server's grace is over. */
  readonly signal: AbortSignal;
  /** What is left of the deadline now, ms; Infinity on streams without one. */
  remainingMs(): number;
}

type AnyCall =
  | Pick<
      ServerUnaryCall<unknown, unknown>,
      "getDeadline" | "on" | "sendMetadata"
    >
  | Pick<
      ServerDuplexStream<unknown, unknown>,
      "getDeadline" | "on" | "sendMetadata"
    >;

/**
 * Wraps a unary handler: deadline, cancellation, metadata, status with details, metrics.
 *
 * @param handler  answers, or throws a ReidError that becomes the call's status
 */
export function unary<Request, Response extends object>(
  context: ServiceContext,
  name: RpcName,
  handler: (request: Request, call: Call) => Promise<Response> | Response,
): handleUnaryCall<Request, Response> {
  return (grpcCall, callback) => {
    const call = openCall(context, name, grpcCall);
    const run = async () => {
      const response = await handler(grpcCall.request, call);
      if (call.signal.aborted) throw abortReason(call.signal, name);
      const bytes = serializeResponse(name, response);
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
export interface OpenCall extends Call {
  /** Ends timers and metrics; gives the status of a failure. */
  finish(error: unknown): Partial<StatusObject>;
}

/** Starts deadline, cancellation and metrics of a call, and sends the metadata that every call gets. */
export function openCall(
  context: ServiceContext,
  name: RpcName,
  grpcCall: AnyCall,
): OpenCall {
  const { clock, telemetry, instanceId, shutdown } = context;
  const started = clock.monotonic();
  const requestId = randomUUID();
  const metadata = new Metadata();
  metadata.set("reid-request", requestId);
  metadata.set("reid-instance", instanceId);
  grpcCall.sendMetadata(metadata);
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

  return {
    signal: abort.signal,
    remainingMs: () => endMs - clock.monotonic(),
    finish: (error) => {
      isFinished = true;
      clearTimeout(timer);
      leave();
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
      return failure === undefined ? {} : statusObject(failure);
    },
  };
}

function statusObject(failure: ReturnType<typeof wireStatus>): {
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
export function rejectUnary<Request, Response extends object>(
  context: ServiceContext,
  name: RpcName,
): handleUnaryCall<Request, Response> {
  return unary<Request, Response>(context, name, () => {
    throw unsupportedRpc(name);
  });
}

/** The same for a streaming RPC. */
export function rejectStream(
  context: ServiceContext,
  name: RpcName,
): (
  stream: AnyCall & { emit(event: "error", error: unknown): boolean },
) => void {
  return (stream) => {
    const call = openCall(context, name, stream);
    stream.emit("error", call.finish(unsupportedRpc(name)));
  };
}
