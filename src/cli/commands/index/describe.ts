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
      const facts = galleries.map(factsOf);
      for (const one of facts)
        context.out.line(
          `${one["name"]}: ${one["entries"]} entries of ${one["identities"]} identities, ` +
            `${one["dimension"]} numbers of ${one["model"]}, sequence ${one["sequence"]}`,
        );
      return { galleries: facts };
    }),
};
