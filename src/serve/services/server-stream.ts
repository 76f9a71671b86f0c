import type { ServerWritableStream } from "@grpc/grpc-js";
import { once } from "node:events";
import { ShuttingDownError } from "../errors.js";
import type { RpcName, RpcRequest } from "../rpcs.js";
import { openCall, type Call } from "./call.js";
import { watchConnection } from "./connection-age.js";
import type { ServiceContext } from "./context.js";

/** Sends one message; resolves when the client has room for the next. */
export type Send<Response> = (message: Response) => Promise<void>;

/**
 * Wraps a server-streaming handler: permission, cancellation, metadata, status with details, metrics.
 *
 * @param handler  sends its messages one after another; the stream ends when it resolves, with its status where it throws
 */
export function serverStream<Name extends RpcName, Response>(
  context: ServiceContext,
  name: Name,
  handler: (
    request: RpcRequest<Name>,
    call: Call,
    send: Send<Response>,
  ) => Promise<void>,
): (stream: ServerWritableStream<RpcRequest<Name>, Response>) => void {
  return (stream) => {
    const call = openCall(context, name, stream, {
      request: stream.request,
      refuse: (status) => stream.emit("error", status),
    });
    if (call === undefined) return;
    const abort = new AbortController();
    const { draining } = context;
    // A stream may last for ever: the server does not wait for its end, and sends the client elsewhere.
    const onDrain = () => abort.abort(new ShuttingDownError());
    const { maxConnectionAgeGraceMs: graceMs } = context.config.grpc;
    const unwatch = watchConnection(stream, graceMs, () =>
      abort.abort(new ShuttingDownError("connection")),
    );
    const onAbort = () => abort.abort(call.signal.reason);
    draining.addEventListener("abort", onDrain);
    call.signal.addEventListener("abort", onAbort);
    const send = async (message: Response) => {
      abort.signal.throwIfAborted();
      if (!stream.write(message))
        await once(stream, "drain", { signal: abort.signal }).catch(() =>
          abort.signal.throwIfAborted(),
        );
    };
    const inner: Call = {
      principal: call.principal,
      signal: abort.signal,
      remainingMs: () => call.remainingMs(),
    };
    const run = async () => {
      if (draining.aborted) throw new ShuttingDownError();
      await handler(stream.request, inner, send);
    };
    run()
      .then(
        () => {
          call.finish(undefined);
          stream.end();
        },
        (error: unknown) => {
          stream.emit("error", call.finish(error));
        },
      )
      .finally(() => {
        unwatch();
        draining.removeEventListener("abort", onDrain);
        call.signal.removeEventListener("abort", onAbort);
      });
  };
}
