import {
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { errorFromCall } from "#cli/client";
import type { ReidError } from "#core/errors";
import type { RpcName } from "#serve/rpcs";
import { packageDefinition } from "#serve/services/definitions";

/** How a raw call is made. */
export interface RawCallOptions {
  /** Sent to the server; the client itself goes on waiting. Default: none is sent. */
  readonly deadlineMs?: number;
  /** Values of `authorization`. Default: none. */
  readonly authorization?: readonly string[];
}

/** Makes a call of any kind with one request, and waits for its failure; the client sets no deadline of its own. */
export async function failedCall(
  address: string,
  name: RpcName,
  request: object = {},
  options: RawCallOptions = {},
): Promise<ServiceError> {
  const failure = await endedCall(address, name, request, options);
  if (failure === undefined) throw new RangeError("the call succeeded");
  return failure;
}

/** The same for a call that may succeed: undefined where it does; a stream is left after its first answer. */
export async function endedCall(
  address: string,
  name: RpcName,
  request: object = {},
  { deadlineMs, authorization = [] }: RawCallOptions = {},
): Promise<ServiceError | undefined> {
  const method = methodOf(name);
  const client = new Client(address, credentials.createInsecure());
  const metadata = new Metadata();
  if (deadlineMs !== undefined) metadata.set("grpc-timeout", `${deadlineMs}m`);
  for (const value of authorization) metadata.add("authorization", value);
  const { path, requestSerialize, responseDeserialize } = method;
  try {
    return await new Promise<ServiceError | undefined>((resolve) => {
      const end = (error: ServiceError | null) => resolve(error ?? undefined);
      const answered = () => resolve(undefined);
      if (method.requestStream) {
        const call = client.makeBidiStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          metadata,
        );
        call.on("error", end);
        call.on("data", answered);
        call.write(request);
      } else if (method.responseStream)
        client
          .makeServerStreamRequest(
            path,
            requestSerialize,
            responseDeserialize,
            request,
            metadata,
          )
          .on("error", end)
          .on("data", answered);
      else
        client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          request,
          metadata,
          end,
        );
    });
  } finally {
    client.close();
  }
}

/** What a failed call's trailers say: the failure, its google.rpc details by name, and when to try again. */
export function trailersOf(failed: ServiceError): {
  readonly error: ReidError;
  readonly details: Buffer;
  readonly pushbackMs: string | undefined;
} {
  const [details] = failed.metadata.get("grpc-status-details-bin");
  const [pushback] = failed.metadata.get("grpc-retry-pushback-ms");
  return {
    error: errorFromCall(failed),
    details: details instanceof Buffer ? details : Buffer.alloc(0),
    pushbackMs: pushback?.toString(),
  };
}

function methodOf(name: RpcName): MethodDefinition<object, object> {
  const [service, rpc] = name.split("/");
  const methods = packageDefinition[`reid.v1.${service}`] as ServiceDefinition;
  return methods[rpc];
}
