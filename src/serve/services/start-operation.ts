import type { IdentifiedRequest } from "#index/request-turns";
import type { Operation as WireOperation } from "../generated/reid/v1/Operation.js";
import type { WithOperation } from "../operation-types.js";
import type { ServiceContext } from "./context.js";
import { operationToWire } from "./operation.js";

/**
 * The answer of a call that starts an operation: with an id, kept in the transaction that the operation begins in.
 *
 * @param method  the call's serializers
 * @param start   begins the operation and calls back within its transaction
 */
export async function startOnce<Response>(
  context: ServiceContext,
  id: IdentifiedRequest | undefined,
  method: {
    responseSerialize(response: { readonly operation: WireOperation }): Buffer;
    responseDeserialize(bytes: Buffer): Response;
  },
  start: (withOperation: WithOperation) => Promise<unknown>,
): Promise<Response> {
  const bytes = await context.requests.once(id, async (keep) => {
    let response: Buffer = Buffer.alloc(0);
    await start((writer, operation) => {
      response = method.responseSerialize({
        operation: operationToWire(context, operation),
      });
      keep(writer, response);
    });
    return response;
  });
  return method.responseDeserialize(Buffer.from(bytes));
}
