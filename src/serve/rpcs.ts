import { UnsupportedError } from "./errors.js";
import type { ParsedOf, RpcOf, ServiceName, Services } from "./protocol.js";

/** Least role that may call an RPC. */
export type Role = "reader" | "writer" | "admin";

/** One RPC of `reid.v1`. */
export interface RpcSpec {
  readonly role: Role;
  /** Given to calls that bring no deadline; streams have none. */
  readonly deadlineMs?: number;
  /** What to use instead of an RPC that this server does not serve. */
  readonly unsupported?: string;
}

const table = {
  "EmbedService/Embed": { role: "reader", deadlineMs: 10_000 },
  "EmbedService/StreamEmbed": { role: "reader" },
  "SearchService/Search": { role: "reader", deadlineMs: 5000 },
  "SearchService/Identify": { role: "reader", deadlineMs: 5000 },
  "GalleryService/CreateGallery": { role: "admin", deadlineMs: 10_000 },
  "GalleryService/GetGallery": { role: "reader", deadlineMs: 2000 },
  "GalleryService/ListGalleries": { role: "reader", deadlineMs: 5000 },
  "GalleryService/UpdateGallery": { role: "admin", deadlineMs: 10_000 },
  "GalleryService/DeleteGallery": { role: "admin", deadlineMs: 30_000 },
  "GalleryService/Enroll": { role: "writer", deadlineMs: 10_000 },
  "GalleryService/StreamEnroll": { role: "writer" },
  "GalleryService/GetEntry": { role: "reader", deadlineMs: 2000 },
  "GalleryService/ListEntries": { role: "reader", deadlineMs: 5000 },
  "GalleryService/UpdateEntries": { role: "writer", deadlineMs: 30_000 },
  "GalleryService/DeleteEntries": { role: "writer", deadlineMs: 30_000 },
  "GalleryService/ListIdentities": { role: "reader", deadlineMs: 5000 },
  "GalleryService/ForgetIdentity": { role: "admin", deadlineMs: 60_000 },
  "ModelService/ListModels": { role: "reader", deadlineMs: 5000 },
  "ModelService/GetModel": { role: "reader", deadlineMs: 2000 },
  "ModelService/LoadModel": {
    role: "admin",
    deadlineMs: 120_000,
    unsupported: "restart the server: it loads the newest version of each name",
  },
  "ModelService/UnloadModel": {
    role: "admin",
    deadlineMs: 30_000,
    unsupported: "take the bundle out of the models folder and restart",
  },
  "ModelService/ActivateModel": {
    role: "admin",
    deadlineMs: 120_000,
    unsupported: "restart the server: it activates the newest version",
  },
  "ModelService/RollbackModel": {
    role: "admin",
    deadlineMs: 30_000,
    unsupported: "take the newest bundle out of the models folder and restart",
  },
  "ModelService/StartMigration": {
    role: "admin",
    deadlineMs: 10_000,
    unsupported: "create a gallery on the new version and enroll again",
  },
  "MemoryService/GetMemory": { role: "reader", deadlineMs: 2000 },
  "MemoryService/ListClusters": { role: "reader", deadlineMs: 5000 },
  "MemoryService/ListClusterRows": { role: "reader", deadlineMs: 5000 },
  "MemoryService/Assign": {
    role: "reader",
    deadlineMs: 5000,
    unsupported: "compare the feature with the prototypes of ListClusters",
  },
  "MemoryService/Recluster": { role: "admin", deadlineMs: 10_000 },
  "MemoryService/PauseMemory": {
    role: "admin",
    deadlineMs: 5000,
    unsupported: "send crops with observe NO",
  },
  "MemoryService/ResumeMemory": {
    role: "admin",
    deadlineMs: 5000,
    unsupported: "send crops with observe YES",
  },
  "MemoryService/ExportMemory": {
    role: "admin",
    unsupported: "read it with ListClusterRows",
  },
  "MemoryService/DeleteMemoryRows": {
    role: "admin",
    deadlineMs: 60_000,
    unsupported: "restart with an empty data folder",
  },
  "OperationService/GetOperation": { role: "reader", deadlineMs: 2000 },
  "OperationService/ListOperations": { role: "reader", deadlineMs: 5000 },
  "OperationService/WatchOperation": { role: "reader" },
  "OperationService/CancelOperation": { role: "admin", deadlineMs: 5000 },
  "AdminService/GetServerInfo": { role: "reader", deadlineMs: 2000 },
  "AdminService/CreateSnapshot": { role: "admin", deadlineMs: 10_000 },
  "AdminService/CreateBackup": { role: "admin", deadlineMs: 10_000 },
  "AdminService/ListBackups": { role: "admin", deadlineMs: 5000 },
  "AdminService/DeleteBackup": { role: "admin", deadlineMs: 60_000 },
  "AdminService/RestoreBackup": { role: "admin", deadlineMs: 10_000 },
} as const satisfies Record<string, RpcSpec>;

/** An RPC by service and name, without the package. */
export type RpcName = keyof typeof table;

/** What an RPC gets: its request, or one message of its stream. */
export type RpcRequest<Name extends RpcName> =
  Name extends `${infer Service extends ServiceName}/${infer Rpc}`
    ? Rpc extends RpcOf<Services[Service]>
      ? ParsedOf<Service, Rpc>
      : never
    : never;

/** Every RPC of api.md with its role and deadline; the wire test calls each of them. */
export const rpcs: Readonly<Record<RpcName, RpcSpec>> = table;

/** All names, in the order of the table. */
export const rpcNames: readonly RpcName[] = Object.keys(table).filter(
  (name): name is RpcName => name in table,
);

/** Longest deadline of a unary call. */
export const MAX_DEADLINE_MS = 600_000;

/** What calling an RPC that is not served fails with. */
export function unsupportedRpc(name: RpcName): UnsupportedError {
  return new UnsupportedError(
    name,
    rpcs[name].unsupported ?? "use another RPC",
  );
}
