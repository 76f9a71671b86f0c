import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { removeTree, syncFolder } from "#core/files";
import { Store } from "#core/store";
import { lockedFolder } from "#core/store-disk";
import { readBackup, stageBackup, type BackupManifest } from "#index/backup";
import { installBundle } from "#index/backup-bundles";
import { GalleryNotFoundError } from "#index/errors";
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
  refuseBeside,
  renamings,
  serverOptions,
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

/** Where copies of backups lie while they are looked at; a start of the server removes what is there. */
const stagingName = "restoring";

/** Brings a checked copy of the backup, and its bundles, beside the data, and takes the copy away at the end. */
async function withStaged<Result>(
  { flags, signal, out }: CommandContext,
  action: (staged: string) => Promise<Result>,
): Promise<Result> {
  const id = requiredFlag(flags, "id");
  const root = join(requiredFlag(flags, "data"), stagingName);
  const staged = join(root, id);
  const progress = out.progress("copy, bytes", 0);
  try {
    await removeTree(staged);
    await stageBackup(requiredFlag(flags, "from"), id, staged, {
      signal,
      report: (done, total) => progress.update(done, "", total),
    }).finally(() => progress.end());
    await installBundles(staged, textFlag(flags, "models") ?? "models", id);
    return await action(staged);
  } finally {
    await removeTree(root);
  }
}

async function restoreFolder(context: CommandContext): Promise<JsonObject> {
  const { flags, out } = context;
  const folder = requiredFlag(flags, "data");
  const id = requiredFlag(flags, "id");
  // Before anything is made in a folder that may be there by a typing error only.
  const manifest = await readBackup(requiredFlag(flags, "from"), id);
  const plan = planFor(manifest, renamings(listFlag(flags, "gallery")));
  const isWhole = !hasStore(folder) && listFlag(flags, "gallery").length === 0;
  if (isWhole) {
    const lock = await lockedFolder(folder);
    try {
      await withStaged(context, (staged) => restoreWhole(staged, folder));
    } finally {
      lock.release();
    }
  } else await restoreInto(context, plan);
  const names = [...plan.values()];
  for (const name of names) out.line(`${name}: restored`);
  return { backupId: id, galleries: names };
}

/** Name in the backup → name here. @throws {GalleryNotFoundError} it has none of that name */
function planFor(
  { galleries }: BackupManifest,
  named: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const present = galleries.map(({ name }) => name);
  for (const name of named.keys())
    if (!present.includes(name)) throw new GalleryNotFoundError(name);
  return named.size > 0 ? named : new Map(present.map((name) => [name, name]));
}

/** Galleries of the backup beside those that the folder has, swapped in at one commit. */
async function restoreInto(
  context: CommandContext,
  plan: ReadonlyMap<string, string>,
): Promise<void> {
  const { flags, signal, out } = context;
  const folder = requiredFlag(flags, "data");
  // A folder without a store gets one: the galleries named are all that is wanted in it.
  if (!hasStore(folder)) await (await Store.open(folder)).close();
  // Opened first: where somebody else has the folder, nothing is copied.
  await withFolder(context, ({ galleries }) =>
    withStaged(context, async (staged) => {
      const copy = await Store.open(staged, { minFreeBytes: 0 });
      const progress = out.progress("restore", 0);
      try {
        await galleries.restore(copy, plan, {
          signal,
          report: (done, total) => progress.update(done, "", total),
        });
      } finally {
        progress.end();
        await copy.close();
      }
    }),
  );
}

/** `reid index restore`: galleries of a backup into a data folder, or a running server. */
export const restore: Command = {
  name: "restore",
  summary: "bring galleries of a backup back",
  usage:
    "--id ID (--from BACKUPS --data DIR [--models DIR] | --server HOST:PORT) [--gallery NAME[=OTHER]]...",
  options: {
    ...dataOption,
    ...serverOptions,
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
    refuseBeside(flags, "server", ["data", "from"]);
    const backupId = requiredFlag(flags, "id");
    const plan = renamings(listFlag(flags, "gallery"));
    await operationOn(server, { ...context, label: "restore" }, (client) =>
      client.AdminService.RestoreBackup({
        backupId,
        galleries: Object.fromEntries(plan),
      }),
    );
    out.line(`backup ${backupId} restored on ${server}`);
    return { backupId, galleries: [...plan.values()] };
  },
};
