import type { Gallery } from "#index/gallery";
import type { GalleryCheck } from "#index/gallery-types";
import { type Command, type CommandContext, hasFlag } from "../../command.js";
import { checkOf, reportChecks } from "./check.js";
import { galleryOptions, withGalleries } from "./data-folder.js";
import { rebuildOf } from "./rebuild.js";

/** Mends what can be mended, and checks again. */
async function mend(
  context: CommandContext,
  gallery: Gallery,
): Promise<GalleryCheck> {
  const { flags, out } = context;
  const found = await checkOf(context, gallery);
  if (found.problems.length === 0) return found;
  const { brokenEntries } = found;
  if (hasFlag(flags, "drop-broken") && brokenEntries.length > 0) {
    const { deletedCount } = await gallery.deleteEntries({
      entryIds: brokenEntries,
    });
    out.line(`${gallery.name}: ${deletedCount} entries dropped`);
  }
  await rebuildOf(context, gallery);
  out.line(`${gallery.name}: index built anew`);
  return checkOf(context, gallery);
}

/** `reid index repair`: indexes anew where they do not agree with the store. */
export const repair: Command = {
  name: "repair",
  summary: "mend galleries that check finds problems in",
  usage: "--data DIR [--gallery NAME] [--drop-broken]",
  options: {
    ...galleryOptions,
    "drop-broken": {
      type: "boolean",
      description:
        "delete entries whose feature or crop in the store is missing, cut or damaged, or whose feature is not of norm one",
    },
  },
  run: (context) =>
    withGalleries(context, async (galleries) => {
      const checks: GalleryCheck[] = [];
      for (const gallery of galleries)
        checks.push(await mend(context, gallery));
      return reportChecks(context, checks);
    }),
};
