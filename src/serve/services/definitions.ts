import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import {
  messageOptions,
  protoFiles,
  type ServiceName,
  type Services,
} from "../protocol.js";

/** All of `reid.v1` as gRPC needs it; read from the .proto files once. */
export const packageDefinition: PackageDefinition = loadSync(
  [...protoFiles],
  messageOptions,
);

/** One service's methods with their serializers. */
export function serviceDefinition<Name extends ServiceName>(
  name: Name,
): Services[Name] {
  // The loader cannot know the types that were generated from the same files; generated.test.ts keeps them equal.
  return packageDefinition[`reid.v1.${name}`] as unknown as Services[Name];
}
