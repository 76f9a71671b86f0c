import type { Command } from "../../command.js";
import { factsOf, galleryOptions, withGalleries } from "./data-folder.js";

/** `reid index rebuild`: indexes anew from the store. */
export const rebuild: Command = {
  name: "rebuild",
  summary: "build indexes anew from the store",
  usage: "--data DIR [--gallery NAME]",
  options: galleryOptions,
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
