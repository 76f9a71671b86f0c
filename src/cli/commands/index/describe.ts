import type { Command } from "../../command.js";
import { factsOf, galleryOptions, withGalleries } from "./data-folder.js";

/** `reid index describe`: what the galleries of a data folder hold. */
export const describe: Command = {
  name: "describe",
  summary: "what the galleries of a data folder hold",
  usage: "--data DIR [--gallery NAME]",
  options: galleryOptions,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      for (const gallery of galleries) {
        const { name, model, dimension, index, ...held } = gallery.describe();
        context.out.line(
          `${name}: ${held.entryCount} entries of ${held.identityCount} identities, ` +
            `${dimension} numbers of ${model.name}/${model.version}, ${index.kind}, sequence ${held.sequence}`,
        );
      }
      return { galleries: galleries.map(factsOf) };
    }),
};
