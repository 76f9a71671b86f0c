import { GalleryNotFoundError } from "#index/errors";
import { importEntries, openExport } from "#index/gallery-export";
import {
  requiredFlag,
  textFlag,
  UsageError,
  type Command,
} from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

/** `reid index import`: entries and features that `export` has written. */
export const importCommand: Command = {
  name: "import",
  summary:
    "enrol what export has written, into a gallery that is made where there is none",
  usage: "--data DIR --from PATH [--gallery NAME]",
  options: {
    ...dataOption,
    from: {
      type: "string",
      placeholder: "PATH",
      description: "folder that export has written, or a Parquet file",
    },
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery to enrol into; default the exported one's name",
    },
  },
  run: (context) => {
    const { flags, out, signal } = context;
    const from = requiredFlag(flags, "from");
    return withFolder(context, async ({ galleries }) => {
      const source = await openExport(from);
      try {
        const name = textFlag(flags, "gallery") ?? source.gallery?.name;
        if (name === undefined)
          throw new UsageError(
            `${from} does not say what its gallery is: name one with --gallery`,
          );
        const gallery = await galleries.get(name).catch((error: unknown) => {
          if (error instanceof GalleryNotFoundError) return undefined;
          throw error;
        });
        const progress = out.progress("import", 2 * source.count);
        const entries = await importEntries(
          source,
          { gallery, make: (spec) => galleries.create({ ...spec, name }) },
          { signal, report: (done) => progress.update(done) },
        ).finally(() => progress.end());
        out.line(`${name}: ${entries} entries enrolled`);
        return { gallery: name, entries };
      } finally {
        await source.close();
      }
    });
  },
};
