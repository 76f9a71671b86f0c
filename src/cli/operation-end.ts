import type { ResponseOf } from "#serve/protocol";
import { errorFromCall, type Client } from "./client.js";
import type { CommandContext } from "./command.js";
import { withClientAt } from "./connection.js";
import { failureError } from "./retrieval.js";

/** How an operation stands, as the server tells it. */
export type SeenOperation = NonNullable<
  ResponseOf<"OperationService", "GetOperation">["operation"]
>;

/**
 * Starts an operation on a server, shows how far it is, and waits for its end.
 *
 * @param context  its `label` says what it is, for the progress
 * @param start    makes the call that starts it
 * @throws the signal's reason: the operation goes on, on the server
 * @throws {ReidError} the server's reason where it failed, or the call did
 */
export function operationOn(
  address: string,
  context: Pick<CommandContext, "flags" | "environment" | "out" | "signal"> & {
    readonly label: string;
  },
  start: (
    client: Client,
  ) => Promise<{ readonly operation: SeenOperation | null }>,
): Promise<SeenOperation> {
  const { out, signal, label } = context;
  return withClientAt(address, context, async (client) => {
    const { operation: started } = await start(client);
    const operationId = started?.operationId ?? "";
    const progress = out.progress(label, Number(started?.totalCount ?? 0));
    const end = await new Promise<SeenOperation>((resolve, reject) => {
      let last: SeenOperation | undefined;
      const watch = client.watchOperation(operationId);
      signal.addEventListener("abort", () => {
        out.warn(`operation ${operationId} goes on, on ${address}`);
        watch.cancel();
      });
      watch
        .on("data", ({ operation }: { operation: SeenOperation }) => {
          last = operation;
          const { doneCount, totalCount } = operation;
          progress.update(Number(doneCount), "", Number(totalCount));
        })
        .on("error", (error: Parameters<typeof errorFromCall>[0]) =>
          reject(
            signal.aborted ? (signal.reason as Error) : errorFromCall(error),
          ),
        )
        .on("end", () => last !== undefined && resolve(last));
    }).finally(() => progress.end());
    if (end.error !== null && end.error !== undefined)
      throw failureError(end.error);
    return end;
  });
}
