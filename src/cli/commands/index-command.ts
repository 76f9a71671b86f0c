import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "#core/errors";
import { Store } from "#core/store";
import { createLog } from "#core/log";
import { GalleryStore } from "#index/gallery-store";
import type { Gallery } from "#index/gallery";
import { IndexProblemsError } from "#index/errors";
import {
  type Command,
  type CommandContext,
  FailedRun,
  type JsonObject,
  requiredFlag,
  textFlag,
} from "../command.js";

const options = {
  data: {
    type: "string",
    placeholder: "DIR",
    description: "data folder of a server that is not running",
  },
  gallery: {
    type: "string",
    placeholder: "NAME",
    description: "only this gallery; default all",
  },
} as const;

/** Opens the data folder, hands over the galleries asked for, and closes it whatever happens. */
async function withGalleries<Result>(
  { flags, clock }: CommandContext,
  action: (galleries: readonly Gallery[]) => Promise<Result>,
): Promise<Result> {
  const name = textFlag(flags, "gallery");
  const folder = requiredFlag(flags, "data");
  // Opening would make an empty store, of which everything is well.
  if (!existsSync(join(folder, "store", "data.mdb")))
    throw new ConfigError(
      "--data",
      `${folder}, which holds no store`,
      "the folder that reid serve --data was given",
    );
  const store = await Store.open(folder);
  try {
    const galleries = await GalleryStore.open(store, {
      clock,
      log: createLog({ level: "warn" }),
    });
    try {
      return await action(
        name === undefined
          ? await galleries.list()
          : [await galleries.get(name)],
      );
    } finally {
      await galleries.close();
    }
  } finally {
    await store.close();
  }
}

function factsOf(gallery: Gallery): JsonObject {
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

const describe: Command = {
  name: "describe",
  summary: "what the galleries of a data folder hold",
  usage: "--data DIR [--gallery NAME]",
  options,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      const facts = galleries.map(factsOf);
      for (const one of facts)
        context.out.line(
          `${one["name"]}: ${one["entries"]} entries of ${one["identities"]} identities, ` +
            `${one["dimension"]} numbers of ${one["model"]}, sequence ${one["sequence"]}`,
        );
      return { galleries: facts };
    }),
};

const check: Command = {
  name: "check",
  summary: "whether index and store agree; exit code 1 where they do not",
  usage: "--data DIR [--gallery NAME]",
  options,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      const checks: JsonObject[] = [];
      let problems = 0;
      for (const gallery of galleries) {
        const found = await gallery.check();
        problems += found.problems.length;
        context.out.line(
          `${found.gallery}: ${found.entries} entries, ${found.indexed} in the index, ` +
            (found.problems.length === 0
              ? "no problem"
              : `problems: ${found.problems.length}`),
        );
        for (const problem of found.problems) context.out.line(`  ${problem}`);
        checks.push({ ...found });
      }
      const result = { galleries: checks };
      return problems > 0
        ? new FailedRun(new IndexProblemsError(problems), result)
        : result;
    }),
};

const rebuild: Command = {
  name: "rebuild",
  summary: "build indexes anew from the store",
  usage: "--data DIR [--gallery NAME]",
  options,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      for (const gallery of galleries) {
        await gallery.rebuild();
        const { entryCount } = gallery.describe();
        context.out.line(`${gallery.name}: ${entryCount} entries indexed anew`);
      }
      return { galleries: galleries.map(factsOf) };
    }),
};

/** `reid index`: looks after the galleries of a data folder while no server runs on it. */
export const command: Command = {
  name: "index",
  summary: "check, describe and rebuild the galleries of a data folder",
  usage: "check|describe|rebuild --data DIR",
  options: {},
  subcommands: { check, describe, rebuild },
};
