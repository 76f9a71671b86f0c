import type { BackupManifest } from "#index/backup";
import { BackupNotFoundError } from "#index/errors";
import { FieldInvalidError } from "../errors.js";
import { requireName, timestamp } from "../fields.js";
import { galleryToWire } from "../gallery-requests.js";
import type { Backup } from "../generated/reid/v1/Backup.js";
import type { CreateBackupRequest__Output } from "../generated/reid/v1/CreateBackupRequest.js";
import type { CreateBackupResponse } from "../generated/reid/v1/CreateBackupResponse.js";
import type { DeleteBackupRequest__Output } from "../generated/reid/v1/DeleteBackupRequest.js";
import type { DeleteBackupResponse } from "../generated/reid/v1/DeleteBackupResponse.js";
import type { ListBackupsRequest__Output } from "../generated/reid/v1/ListBackupsRequest.js";
import type { ListBackupsResponse } from "../generated/reid/v1/ListBackupsResponse.js";
import type { RestoreBackupRequest__Output } from "../generated/reid/v1/RestoreBackupRequest.js";
import type { RestoreBackupResponse } from "../generated/reid/v1/RestoreBackupResponse.js";
import type { Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { identified } from "./open-gallery.js";
import { startOnce } from "./start-operation.js";

/** Starts a backup of some galleries, or of everything. */
export async function createBackup(
  context: ServiceContext,
  request: CreateBackupRequest__Output,
): Promise<CreateBackupResponse> {
  const { CreateBackup } = serviceDefinition("AdminService");
  const id = identified(request, CreateBackup);
  const names = request.galleries.map((name, i) =>
    requireName(name, `galleries[${i}]`),
  );
  return startOnce(context, id, CreateBackup, (withOperation) =>
    context.backups.create([...new Set(names)], withOperation),
  );
}

/** Starts a restore. */
export async function restoreBackup(
  context: ServiceContext,
  request: RestoreBackupRequest__Output,
): Promise<RestoreBackupResponse> {
  const { RestoreBackup } = serviceDefinition("AdminService");
  const id = identified(request, RestoreBackup);
  const backupId = requireName(request.backupId, "backup_id");
  const plan = new Map<string, string>();
  for (const [from, to] of Object.entries(request.galleries)) {
    const field = `galleries[${from}]`;
    plan.set(requireName(from, field), requireName(to, field));
  }
  if (new Set(plan.values()).size < plan.size)
    throw new FieldInvalidError(
      "galleries",
      "one name for two galleries",
      "a name of its own for each",
    );
  return startOnce(context, id, RestoreBackup, (withOperation) =>
    context.backups.restore(backupId, plan, withOperation),
  );
}

/** Whether the caller may see every gallery of a backup. */
function isSeen(
  { galleries }: BackupManifest,
  { principal }: Pick<Call, "principal">,
): boolean {
  return galleries.every(({ name }) => principal.galleries.match(name));
}

/**
 * Deletes a backup.
 *
 * @throws {BackupNotFoundError} or it holds a gallery that the caller may not see
 */
export async function deleteBackup(
  { backups }: ServiceContext,
  { backupId }: DeleteBackupRequest__Output,
  call: Pick<Call, "principal">,
): Promise<DeleteBackupResponse> {
  const id = requireName(backupId, "backup_id");
  if (!call.principal.galleries.isAll) {
    const backup = (await backups.list()).find((one) => one.backupId === id);
    if (backup !== undefined && !isSeen(backup, call))
      throw new BackupNotFoundError(id);
  }
  await backups.delete(id);
  return {};
}

/** One page of the backups whose galleries the caller may all see, newest first. */
export async function listBackups(
  context: ServiceContext,
  request: ListBackupsRequest__Output,
  call: Pick<Call, "principal">,
): Promise<ListBackupsResponse> {
  const { pages, config, backups } = context;
  const page = pages.read(request, "backups", config.limits.pageSize);
  const seen = (await backups.list()).filter((one) => isSeen(one, call));
  const { items, next } = pages.slice(seen, page, {
    keyOf: ({ createdAtMs, backupId }) => `${createdAtMs}:${backupId}`,
    compare: ({ createdAtMs, backupId }, key) => {
      const [at, id] = key.split(":");
      if (createdAtMs !== Number(at)) return Number(at) - createdAtMs;
      return backupId < id ? 1 : backupId > id ? -1 : 0;
    },
  });
  return {
    backups: items.map(backupToWire),
    nextPageToken: pages.token(next, "backups"),
  };
}

function backupToWire(backup: BackupManifest): Backup {
  const sizeBytes = backup.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return {
    backupId: backup.backupId,
    createdAt: timestamp(backup.createdAtMs * 1000),
    sizeBytes: String(sizeBytes),
    serverVersion: backup.serverVersion,
    galleries: backup.galleries.map((gallery) => galleryToWire(gallery)),
  };
}
