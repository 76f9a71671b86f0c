import { existsSync } from "node:fs";
import { join } from "node:path";
import { ulid } from "ulid";
import { writeBackup, type BackedUpBundle } from "#index/backup";
import type { ModelVersion } from "#index/gallery-types";
import { EXTERNAL_MODEL } from "#serve/gallery-requests";
import { packageVersion } from "#serve/package-version";
import {
  listFlag,
  requiredFlag,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../../command.js";
import { operationOn } from "../../operation-end.js";
import {
  dataOption,
  refuseBeside,
  serverOptions,
  withFolder,
} from "./data-folder.js";

/** The bundles of models that are in a models folder; says which are not. */
function bundlesIn(
  { flags, out }: CommandContext,
  models: readonly ModelVersion[],
): readonly BackedUpBundle[] {
  const folder = textFlag(flags, "models") ?? "models";
  return models
    .filter(({ name }) => name !== EXTERNAL_MODEL)
    .map(({ name, version }) => ({
      ...{ name, version },
      folder: join(folder, name, String(version)),
    }))
    .filter((bundle) => {
      const isThere = existsSync(join(bundle.folder, "manifest.json"));
      if (!isThere)
        out.warn(
          `model ${bundle.name}/${bundle.version} is not in ${folder}: the backup is without it, give the models folder with --models`,
        );
      return isThere;
    });
}

async function backUpFolder(context: CommandContext): Promise<JsonObject> {
  const { flags, signal, clock, out } = context;
  const target = requiredFlag(flags, "out");
  return withFolder(context, async ({ store, galleries }) => {
    const names = listFlag(flags, "gallery");
    for (const name of names) await galleries.get(name);
    const progress = out.progress("backup, bytes", 0);
    const manifest = await writeBackup(
      target,
      {
        store,
        galleries: names,
        bundlesOf: (models) => Promise.resolve(bundlesIn(context, models)),
      },
      {
        backupId: ulid(clock.now()).toLowerCase(),
        createdAtMs: clock.now(),
        serverVersion: await packageVersion(),
        signal,
        report: (done, total) => progress.update(done, "", total),
      },
    ).finally(() => progress.end());
    const sizeBytes = manifest.files.reduce(
      (sum, one) => sum + one.sizeBytes,
      0,
    );
    out.line(`backup ${manifest.backupId}: ${sizeBytes} bytes in ${target}`);
    return { backupId: manifest.backupId, sizeBytes };
  });
}

/** `reid index backup`: a backup of a data folder, or of a running server. */
export const backup: Command = {
  name: "backup",
  summary: "back up a data folder, or a server while it runs",
  usage:
    "(--data DIR --out BACKUPS [--models DIR] | --server HOST:PORT) [--gallery NAME]...",
  options: {
    ...dataOption,
    ...serverOptions,
    out: {
      type: "string",
      placeholder: "BACKUPS",
      description: "folder of backups; a server has its own, backup.dir",
    },
    models: {
      type: "string",
      placeholder: "DIR",
      description:
        "folder of bundles; those of the galleries' models come along",
      default: "models",
    },
    gallery: {
      type: "string",
      placeholder: "NAME",
      multiple: true,
      description:
        "only this gallery; repeat for more; default all, memories too",
    },
  },
  run: async (context) => {
    const server = textFlag(context.flags, "server");
    if (server === undefined) return backUpFolder(context);
    refuseBeside(context.flags, "server", ["data", "out"]);
    const galleries = [...listFlag(context.flags, "gallery")];
    const end = await operationOn(
      server,
      { ...context, label: "backup" },
      (client) => client.AdminService.CreateBackup({ galleries }),
    );
    const backupId = end.backup?.backupId ?? "";
    const sizeBytes = Number(end.backup?.sizeBytes ?? 0);
    context.out.line(`backup ${backupId}: ${sizeBytes} bytes on ${server}`);
    return { backupId, sizeBytes };
  },
};
