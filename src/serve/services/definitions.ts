import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import {
  loadSync,
  type MessageTypeDefinition,
  type PackageDefinition,
} from "@grpc/proto-loader";
import {
  messageOptions,
  protoFiles,
  type ServiceName,
  type Services,
} from "../protocol.js";
import type { RpcName } from "../rpcs.js";

/** All of `reid.v1` as gRPC needs it; read from the .proto files once. */
export const packageDefinition: PackageDefinition = loadSync(
  [...protoFiles],
  messageOptions,
);

/** An RPC's answer as it is sent. */
export function serializeResponse(name: RpcName, response: object): Buffer {
  const [service, rpc] = name.split("/");
  const methods = packageDefinition[`reid.v1.${service}`] as ServiceDefinition;
  return methods[rpc].responseSerialize(response);
}

/** A message as it is sent: by its name in `reid.v1`. */
export function serializeMessage(name: string, message: object): Buffer {
  const type = packageDefinition[`reid.v1.${name}`] as MessageTypeDefinition<
    object,
    object
  >;
  return type.serialize(message);
}

/** A service whose handlers answer with bytes: `unary` has serialized them to see how many they are. */
export function servedDefinition(name: ServiceName): ServiceDefinition {
  return Object.fromEntries(
    Object.entries<MethodDefinition<object, object>>(
      packageDefinition[`reid.v1.${name}`] as ServiceDefinition,
    ).map(([rpc, method]) => [
      rpc,
      {
        ...method,
        responseSerialize: (response: object) =>
          Buffer.isBuffer(response)
            ? response
            : method.responseSerialize(response),
      },
    ]),
  );
}

/** One service's methods with their serializers. */
export function serviceDefinition<Name extends ServiceName>(
  name: Name,
): Services[Name] {
  // The loader cannot know the types that were generated from the same files; generated.test.ts keeps them equal.
  return packageDefinition[`reid.v1.${name}`] as unknown as Services[Name];
}
