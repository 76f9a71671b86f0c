import { timestamp } from "../fields.js";
import type { AdminServiceHandlers } from "../generated/reid/v1/AdminService.js";
import {
  createBackup,
  deleteBackup,
  listBackups,
  restoreBackup,
} from "./backup-calls.js";
import { unary } from "./call.js";
import type { ServiceContext } from "./context.js";
import { createSnapshot } from "./snapshot-call.js";

/** Handlers of AdminService. */
export function adminService(context: ServiceContext): AdminServiceHandlers {
  const { config, registry, store } = context;
  return {
    GetServerInfo: unary(
      context,
      "AdminService/GetServerInfo",
      async (_, call) => {
        const disk = await store.status();
        const model = registry.activeVersion();
        return {
          version: context.version,
          instanceId: context.instanceId,
          startedAt: timestamp(context.startedAtMs * 1000),
          limits: Object.fromEntries(
            Object.entries(config.limits).map(([name, value]) => [
              name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
              String(value),
            ]),
          ),
          devices: [...context.devices()],
          indexEngine: config.index.engine,
          defaultModel:
            model === undefined
              ? null
              : { name: model.name, version: model.version },
          storeBytes: String(disk.sizeBytes),
          freeBytes: String(disk.freeBytes),
          writable: disk.writable,
          role: call.principal.role,
        };
      },
    ),
    CreateSnapshot: unary(context, "AdminService/CreateSnapshot", (request) =>
      createSnapshot(context, request),
    ),
    CreateBackup: unary(context, "AdminService/CreateBackup", (request) =>
      createBackup(context, request),
    ),
    ListBackups: unary(context, "AdminService/ListBackups", (request, call) =>
      listBackups(context, request, call),
    ),
    DeleteBackup: unary(context, "AdminService/DeleteBackup", (request, call) =>
      deleteBackup(context, request, call),
    ),
    RestoreBackup: unary(context, "AdminService/RestoreBackup", (request) =>
      restoreBackup(context, request),
    ),
  };
}
