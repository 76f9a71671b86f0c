import { fileURLToPath } from "node:url";
import type { AdminServiceDefinition } from "./generated/reid/v1/AdminService.js";
import type { EmbedServiceDefinition } from "./generated/reid/v1/EmbedService.js";
import type { GalleryServiceDefinition } from "./generated/reid/v1/GalleryService.js";
import type { MemoryServiceDefinition } from "./generated/reid/v1/MemoryService.js";
import type { ModelServiceDefinition } from "./generated/reid/v1/ModelService.js";
import type { OperationServiceDefinition } from "./generated/reid/v1/OperationService.js";
import type { SearchServiceDefinition } from "./generated/reid/v1/SearchService.js";

/** The seven services of `reid.v1` with the types of their messages. */
export interface Services {
  readonly EmbedService: EmbedServiceDefinition;
  readonly SearchService: SearchServiceDefinition;
  readonly GalleryService: GalleryServiceDefinition;
  readonly ModelService: ModelServiceDefinition;
  readonly MemoryService: MemoryServiceDefinition;
  readonly OperationService: OperationServiceDefinition;
  readonly AdminService: AdminServiceDefinition;
}

/** A service's name, without the package. */
export type ServiceName = keyof Services;

/** All services, in the order of the API. */
export const serviceNames: readonly ServiceName[] = [
  "EmbedService",
  "SearchService",
  "GalleryService",
  "ModelService",
  "MemoryService",
  "OperationService",
  "AdminService",
];

/** RPCs of a service, without the index signature that gRPC's own type has. */
export type RpcOf<Service> = keyof {
  [Name in keyof Service as string extends Name ? never : Name]: true;
} &
  string;

/** What a client sends to an RPC. */
export type RequestOf<
  S extends ServiceName,
  R extends RpcOf<Services[S]>,
> = Parameters<Services[S][R]["requestSerialize"]>[0];

/** What an RPC gets from a client: every field there, 64-bit integers as text, bytes as buffers. */
export type ParsedOf<
  S extends ServiceName,
  R extends RpcOf<Services[S]>,
> = ReturnType<Services[S][R]["requestDeserialize"]>;

/** What a client gets from an RPC: every field there, 64-bit integers as text, bytes as buffers. */
export type ResponseOf<
  S extends ServiceName,
  R extends RpcOf<Services[S]>,
> = ReturnType<Services[S][R]["responseDeserialize"]>;

/** Where the .proto files are: beside the compiled code, in the package's root. */
export const protoFolder: string = fileURLToPath(
  new URL("../../../proto/", import.meta.url),
);

/** The files that hold the services; they import the rest. */
export const protoFiles: readonly string[] = [
  "embed",
  "search",
  "gallery",
  "model",
  "memory",
  "operation",
  "admin",
].map((name) => `reid/v1/${name}.proto`);

/** How messages look in TypeScript, the same for server, client and generated types. */
export const messageOptions = {
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [protoFolder],
};
