import { setTimeout as delay } from "node:timers/promises";
import type { Operation } from "../operation-types.js";
import type { ServiceContext } from "./context.js";

/** At most two a second: the least time between two messages. */
const LEAST_MS = 500;

/**
 * Sends an operation as it stands, then at every change, until it is done.
 *
 * Changes that come faster than twice a second are sent as one: the last of them.
 *
 * @param send  resolves when the next may be sent
 * @throws {OperationNotFoundError}
 * @throws {ReidError} the signal's reason: the caller has left, or the server ends
 */
export async function watchOperation(
  { operations }: Pick<ServiceContext, "operations">,
  operationId: string,
  signal: AbortSignal,
  send: (operation: Operation) => Promise<void>,
): Promise<void> {
  let wake: () => void = () => undefined;
  let sent: Operation | undefined;
  const stop = operations.watch(operationId, () => wake());
  const onAbort = () => wake();
  signal.addEventListener("abort", onAbort);
  try {
    for (;;) {
      signal.throwIfAborted();
      const operation = operations.get(operationId);
      if (operation === sent) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      sent = operation;
      await send(operation);
      if (operation.state !== "running") return;
      await delay(LEAST_MS, undefined, { signal }).catch(() =>
        signal.throwIfAborted(),
      );
    }
  } finally {
    stop();
    signal.removeEventListener("abort", onAbort);
  }
}
