import { GalleryNotFoundError } from "#index/errors";
import { exportedGallery, importEntries } from "#index/gallery-export";
import { requiredFlag, textFlag, type Command } from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

/** `reid index import`: entries and features that `export` has written. */
export const importCommand: Command = {
  name: "import",
  summary:
    "enrol what export has written, into a gallery that is made where there is none",
  usage: "--data DIR --from DIR [--gallery NAME]",
  options: {
    ...dataOption,
    from: {
      type: "string",
      placeholder: "DIR",
      description: "folder with gallery.json, entries.jsonl and features.npy",
    },
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery to enrol into; default the exported one's name",
    },
  },
  run: (context) =>
    withFolder(context, async ({ galleries }) => {
      const { flags, out, signal } = context;
      const folder = requiredFlag(flags, "from");
      const spec = await exportedGallery(folder);
      const name = textFlag(flags, "gallery") ?? spec.name;
      const gallery = await galleries.get(name).catch((error: unknown) => {
        if (!(error instanceof GalleryNotFoundError)) throw error;
        return galleries.create({ ...spec, name });
      });
      const progress = out.progress("import", 0);
      const entries = await importEntries(gallery, folder, {
        signal,
        report: (done) => progress.update(done),
      }).finally(() => progress.end());
      out.line(`${name}: ${entries} entries enrolled`);
      return { gallery: name, entries };
    }),
};
