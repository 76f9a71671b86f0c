import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "#core/errors";
import { createLog } from "#core/log";
import { Store } from "#core/store";
import type { Gallery } from "#index/gallery";
import { GalleryStore } from "#index/gallery-store";
import { securityOptions } from "../../client-security.js";
import {
  requiredFlag,
  textFlag,
  UsageError,
  type CommandContext,
  type Flags,
  type JsonObject,
} from "../../command.js";
import type { Progress } from "../../progress.js";

/** The flag of every command on a data folder. */
export const dataOption = {
  data: {
    type: "string",
    placeholder: "DIR",
    description: "data folder of a server that is not running",
  },
} as const;

/** The flags of commands on some or all galleries of a data folder. */
export const galleryOptions = {
  ...dataOption,
  gallery: {
    type: "string",
    placeholder: "NAME",
    description: "only this gallery; default all",
  },
} as const;

/** The flags that ask a running server instead. */
export const serverOptions = {
  server: {
    type: "string",
    placeholder: "HOST:PORT",
    description: "ask this server, which is running, instead of opening --data",
  },
  ...securityOptions,
} as const;

/**
 * Refuses flags that say where something is, where a server is asked that has its own.
 *
 * @throws {UsageError}
 */
export function refuseBeside(
  flags: Flags,
  chosen: string,
  others: readonly string[],
): void {
  for (const other of others)
    if (textFlag(flags, other) !== undefined)
      throw new UsageError(
        `--${other} is given beside --${chosen}, which has its own: leave one of them out`,
        `--${other}`,
      );
}

/** Whether there is a store in a folder. */
export function hasStore(folder: string): boolean {
  return existsSync(join(folder, "store", "data.mdb"));
}

/** What a command has of a data folder while it runs. */
export interface OpenFolder {
  readonly store: Store;
  readonly galleries: GalleryStore;
}

/**
 * Opens the data folder, hands it over, and closes it whatever happens.
 *
 * @throws {ConfigError} no store is there: opening would make an empty one, of which everything is well
 */
export async function withFolder<Result>(
  { flags, clock, out }: CommandContext,
  action: (open: OpenFolder) => Promise<Result>,
): Promise<Result> {
  const folder = requiredFlag(flags, "data");
  if (!hasStore(folder))
    throw new ConfigError(
      "--data",
      `${folder}, which holds no store`,
      "the folder that reid serve --data was given",
    );
  const upgrade = out.progress("bring the store to the present format", 0);
  const store = await Store.open(folder, {
    onUpgraded: (done, total) => upgrade.update(done, "", total),
  }).finally(() => upgrade.end());
  try {
    const indexing = new Map<string, Progress>();
    const galleries = await GalleryStore.open(store, {
      clock,
      log: createLog({ level: "warn" }),
      onIndexed: (gallery, done, total) => {
        const progress =
          indexing.get(gallery) ?? out.progress(`index ${gallery}`, total);
        indexing.set(gallery, progress);
        progress.update(done);
      },
    }).finally(() => {
      for (const progress of indexing.values()) progress.end();
    });
    try {
      return await action({ store, galleries });
    } finally {
      await galleries.close();
    }
  } finally {
    await store.close();
  }
}

/** The same with the galleries that `--gallery` names, or all. */
export function withGalleries<Result>(
  context: CommandContext,
  action: (galleries: readonly Gallery[]) => Promise<Result>,
): Promise<Result> {
  const name = textFlag(context.flags, "gallery");
  return withFolder(context, async ({ galleries }) =>
    action(
      name === undefined ? await galleries.list() : [await galleries.get(name)],
    ),
  );
}

/** A gallery as `--json` prints it. */
export function factsOf(gallery: Gallery): JsonObject {
  const { name, model, dimension, index, entryCount, identityCount, ...rest } =
    gallery.describe();
  return {
    name,
    model: `${model.name}/${model.version}`,
    dimension,
    index: { ...index },
    entries: entryCount,
    identities: identityCount,
    sequence: rest.sequence,
    indexBytes: rest.indexBytes,
    cropRetention: rest.cropRetention,
    maxEntries: rest.maxEntries,
  };
}

/** Galleries named as NAME or NAME=OTHER: what they are called there, and here. @throws {UsageError} */
export function renamings(
  words: readonly string[],
): ReadonlyMap<string, string> {
  const plan = new Map<string, string>();
  for (const word of words) {
    const [from, to = from, ...rest] = word.split("=");
    if (from === "" || to === "" || rest.length > 0)
      throw new UsageError(
        `--gallery is "${word}": expected NAME or NAME=OTHER`,
        word,
      );
    plan.set(from, to);
  }
  return plan;
}
