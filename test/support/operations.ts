import type { ServiceError } from "@grpc/grpc-js";
import { errorFromCall, type Client } from "#cli/client";
import type { ResponseOf } from "#serve/protocol";

/** What a call that starts an operation answers with. */
type Started = { readonly operation: { readonly operationId: string } | null };

/** How an operation stands. */
export type SeenOperation = NonNullable<
  ResponseOf<"OperationService", "WatchOperation">["operation"]
>;

/** Watches an operation to its end. @returns every state it was seen in, the last one last */
export function watched(
  client: Client,
  operationId: string,
): Promise<readonly SeenOperation[]> {
  return new Promise((resolve, reject) => {
    const seen: SeenOperation[] = [];
    client
      .watchOperation(operationId)
      .on("data", ({ operation }: { operation: SeenOperation }) =>
        seen.push(operation),
      )
      .on("error", (error: ServiceError) => reject(errorFromCall(error)))
      .on("end", () => resolve(seen));
  });
}

/** Waits for the end of what a call has started. */
export async function finished(
  client: Client,
  started: Promise<Started>,
): Promise<SeenOperation> {
  const { operation } = await started;
  const seen = await watched(client, operation?.operationId ?? "");
  return seen[seen.length - 1];
}
