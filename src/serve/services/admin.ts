import { requireName, timestamp } from "../fields.js";
import type { AdminServiceHandlers } from "../generated/reid/v1/AdminService.js";
import { createBackup, listBackups, restoreBackup } from "./backup-calls.js";
import { unary } from "./call.js";
import type { ServiceContext } from "./context.js";
import { createSnapshot } from "./snapshot-call.js";

/** Handlers of AdminService. */
export function adminService(context: ServiceContext): AdminServiceHandlers {
  const { config, registry, store } = context;
  return {
    GetServerInfo: unary(context, "AdminService/GetServerInfo", async () => {
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
        // Nobody is authenticated here, and everybody may do everything.
        role: "admin",
      };
    }),
    CreateSnapshot: unary(context, "AdminService/CreateSnapshot", (request) =>
      createSnapshot(context, request),
    ),
    CreateBackup: unary(context, "AdminService/CreateBackup", (request) =>
      createBackup(context, request),
    ),
    ListBackups: unary(context, "AdminService/ListBackups", (request) =>
      listBackups(context, request),
    ),
    DeleteBackup: unary(
      context,
      "AdminService/DeleteBackup",
      async (request) => {
        const id = requireName(request.backupId, "backup_id");
        await context.backups.delete(id);
        return {};
      },
    ),
    RestoreBackup: unary(context, "AdminService/RestoreBackup", (request) =>
      restoreBackup(context, request),
    ),
  };
}
