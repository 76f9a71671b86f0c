import { exportGallery } from "#index/gallery-export";
import { requiredFlag, type Command } from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

/** `reid index export`: a gallery's entries and features as files that others read. */
export const exportCommand: Command = {
  name: "export",
  summary: "write a gallery's entries and features into a folder",
  usage: "--data DIR --gallery NAME --out DIR",
  options: {
    ...dataOption,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery to write",
    },
    out: {
      type: "string",
      placeholder: "DIR",
      description: "folder to make: gallery.json, entries.jsonl, features.npy",
    },
  },
  run: (context) =>
    withFolder(context, async ({ galleries }) => {
      const { flags, out, signal } = context;
      const folder = requiredFlag(flags, "out");
      const gallery = await galleries.get(requiredFlag(flags, "gallery"));
      const { entryCount } = gallery.describe();
      const progress = out.progress("export", entryCount);
      const entries = await exportGallery(gallery, folder, {
        signal,
        report: (done) => progress.update(done),
      }).finally(() => progress.end());
      out.line(`${gallery.name}: ${entries} entries in ${folder}`);
      return { gallery: gallery.name, entries, folder };
    }),
};
