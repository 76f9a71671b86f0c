import type { Gallery } from "#index/gallery";
import type { Command, CommandContext } from "../../command.js";
import { factsOf, galleryOptions, withGalleries } from "./data-folder.js";

/** Builds a gallery's index anew, and shows how far that is; a signal leaves the old one. */
export async function rebuildOf(
  { out, signal }: CommandContext,
  gallery: Gallery,
): Promise<void> {
  const { entryCount } = gallery.describe();
  const progress = out.progress(`rebuild ${gallery.name}`, entryCount);
  await gallery
    .rebuild({ signal, report: (done) => progress.update(done) })
    .finally(() => progress.end());
}

/** `reid index rebuild`: indexes anew from the store. */
export const rebuild: Command = {
  name: "rebuild",
  summary: "build indexes anew from the store",
  usage: "--data DIR [--gallery NAME]",
  options: galleryOptions,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      for (const gallery of galleries) {
        await rebuildOf(context, gallery);
        const { entryCount } = gallery.describe();
        context.out.line(`${gallery.name}: ${entryCount} entries indexed anew`);
      }
      return { galleries: galleries.map(factsOf) };
    }),
};
