import { existsSync } from "node:fs";
import { join } from "node:path";
import { ulid } from "ulid";
import { writeBackup, type BackedUpBundle } from "#index/backup";
import type { ModelVersion } from "#index/gallery-types";
import {
  listFlag,
  requiredFlag,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../../command.js";
import { operationOn } from "../../operation-end.js";
import { dataOption, serverOption, withFolder } from "./data-folder.js";

/** What is in a models folder of the models that are asked for. */
function bundlesIn(
  folder: string,
  models: readonly ModelVersion[],
): readonly BackedUpBundle[] {
  return models
    .map(({ name, version }) => ({
      ...{ name, version },
      folder: join(folder, name, String(version)),
    }))
    .filter((bundle) => existsSync(join(bundle.folder, "manifest.json")));
}

async function backUpFolder(context: CommandContext): Promise<JsonObject> {
  const { flags, signal, clock, out } = context;
  const target = requiredFlag(flags, "out");
  return withFolder(context, async ({ store, galleries }) => {
    const names = listFlag(flags, "gallery");
    for (const name of names) await galleries.get(name);
    const manifest = await writeBackup(
      target,
      {
        store,
        galleries: names,
        bundlesOf: (models) =>
          Promise.resolve(
            bundlesIn(textFlag(flags, "models") ?? "models", models),
          ),
      },
      {
        backupId: ulid(clock.now()).toLowerCase(),
        createdAtMs: clock.now(),
        serverVersion: "offline",
        signal,
        report: () => undefined,
      },
    );
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
    ...serverOption,
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
    const galleries = [...listFlag(context.flags, "gallery")];
    const end = await operationOn(server, context, (client) =>
      client.AdminService.CreateBackup({ galleries }),
    );
    const backupId = end.backup?.backupId ?? "";
    const sizeBytes = Number(end.backup?.sizeBytes ?? 0);
    context.out.line(`backup ${backupId}: ${sizeBytes} bytes on ${server}`);
    return { backupId, sizeBytes };
  },
};
