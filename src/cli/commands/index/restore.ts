import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "#core/files";
import { Store } from "#core/store";
import { stageBackup, type BackupManifest } from "#index/backup";
import { installBundle } from "#index/backup-bundles";
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
  hasStore,
  renamings,
  serverOption,
  withFolder,
} from "./data-folder.js";

/** Puts every bundle of a backup into the models folder. */
async function installBundles(
  staged: string,
  models: string,
  backupId: string,
): Promise<void> {
  const names = await readdir(join(staged, "models")).catch(() => []);
  for (const name of names)
    for (const version of await readdir(join(staged, "models", name)))
      await installBundle(staged, models, {
        backupId,
        model: { name, version: Number(version) },
      });
}

/** The store as a whole, memories and all, into a folder that has none. */
async function restoreWhole(staged: string, folder: string): Promise<void> {
  await mkdir(join(folder, "store"), { recursive: true });
  await rename(
    join(staged, "store", "data.mdb"),
    join(folder, "store", "data.mdb"),
  );
  await syncFolder(join(folder, "store"));
  await syncFolder(folder);
}

async function restoreFolder(context: CommandContext): Promise<JsonObject> {
  const { flags, signal, out } = context;
  const folder = requiredFlag(flags, "data");
  const from = requiredFlag(flags, "from");
  const id = requiredFlag(flags, "id");
  const plan = renamings(listFlag(flags, "gallery"));
  const staged = join(folder, `restoring-${randomBytes(6).toString("hex")}`);
  await mkdir(staged, { recursive: true });
  try {
    const following = { signal, report: () => undefined };
    const manifest = await stageBackup(from, id, staged, following);
    const models = textFlag(flags, "models") ?? "models";
    await installBundles(staged, models, id);
    const names =
      !hasStore(folder) && plan.size === 0
        ? await restoreWhole(staged, folder).then(() => namesIn(manifest))
        : await restoreInto(context, staged, manifest);
    for (const name of names) out.line(`${name}: restored`);
    return { backupId: id, galleries: [...names] };
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

function namesIn({ galleries }: BackupManifest): readonly string[] {
  return galleries.map(({ name }) => name);
}

/** Galleries of the backup beside those that the folder has, swapped in at one commit. */
async function restoreInto(
  context: CommandContext,
  staged: string,
  manifest: BackupManifest,
): Promise<readonly string[]> {
  const { flags, signal } = context;
  const named = renamings(listFlag(flags, "gallery"));
  const plan =
    named.size > 0
      ? named
      : new Map(namesIn(manifest).map((name) => [name, name]));
  const folder = requiredFlag(flags, "data");
  // A folder without a store gets one: the galleries named are all that is wanted in it.
  if (!hasStore(folder)) await (await Store.open(folder)).close();
  const copy = await Store.open(staged, { minFreeBytes: 0 });
  try {
    return await withFolder(context, async ({ galleries }) => {
      const restored = await galleries.restore(copy, plan, {
        signal,
        report: () => undefined,
      });
      return restored.map(({ name }) => name);
    });
  } finally {
    await copy.close();
  }
}

/** `reid index restore`: galleries of a backup into a data folder, or a running server. */
export const restore: Command = {
  name: "restore",
  summary: "bring galleries of a backup back",
  usage:
    "--id ID (--from BACKUPS --data DIR [--models DIR] | --server HOST:PORT) [--gallery NAME[=OTHER]]...",
  options: {
    ...dataOption,
    ...serverOption,
    id: {
      type: "string",
      placeholder: "ID",
      description: "the backup's id, its folder's name",
    },
    from: {
      type: "string",
      placeholder: "BACKUPS",
      description: "folder of backups; a server has its own, backup.dir",
    },
    models: {
      type: "string",
      placeholder: "DIR",
      description: "folder of bundles; those that are missing come back",
      default: "models",
    },
    gallery: {
      type: "string",
      placeholder: "NAME[=OTHER]",
      multiple: true,
      description:
        "only this gallery, under another name; repeat for more; default all",
    },
  },
  run: async (context) => {
    const { flags, out } = context;
    const server = textFlag(flags, "server");
    if (server === undefined) return restoreFolder(context);
    const backupId = requiredFlag(flags, "id");
    const plan = renamings(listFlag(flags, "gallery"));
    await operationOn(server, context, (client) =>
      client.AdminService.RestoreBackup({
        backupId,
        galleries: Object.fromEntries(plan),
      }),
    );
    out.line(`backup ${backupId} restored on ${server}`);
    return { backupId, galleries: [...plan.values()] };
  },
};
