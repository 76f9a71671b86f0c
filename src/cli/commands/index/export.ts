import { exportGallery, type ExportFormat } from "#index/gallery-export";
import { choiceFlag, requiredFlag, type Command } from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

const formats: readonly ExportFormat[] = ["npy", "parquet"];

/** `reid index export`: a gallery's entries and features as files that others read. */
export const exportCommand: Command = {
  name: "export",
  summary: "write a gallery's entries and features for other programs",
  usage: "--data DIR --gallery NAME --out PATH [--format npy|parquet]",
  options: {
    ...dataOption,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery to write",
    },
    out: {
      type: "string",
      placeholder: "PATH",
      description: "folder or file to make; nothing may be there",
    },
    format: {
      type: "string",
      placeholder: "npy|parquet",
      description:
        "a folder (gallery.json, entries.jsonl, features.npy), or one Parquet file, kept crops in it",
      default: "npy",
    },
  },
  run: (context) => {
    const { flags, out, signal } = context;
    const format = choiceFlag(flags, "format", formats) ?? "npy";
    const path = requiredFlag(flags, "out");
    const name = requiredFlag(flags, "gallery");
    return withFolder(context, async ({ galleries }) => {
      const gallery = await galleries.get(name);
      const { entryCount } = gallery.describe();
      const progress = out.progress("export", entryCount);
      const entries = await exportGallery(
        gallery,
        { path, format },
        { signal, report: (done) => progress.update(done) },
      ).finally(() => progress.end());
      out.line(`${gallery.name}: ${entries} entries in ${path}`);
      return { gallery: gallery.name, entries, format, path };
    });
  },
};
