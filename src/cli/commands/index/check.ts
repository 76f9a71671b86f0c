import { IndexProblemsError } from "#index/errors";
import type { Gallery } from "#index/gallery";
import type { GalleryCheck } from "#index/gallery-types";
import {
  type Command,
  type CommandContext,
  FailedRun,
  type JsonObject,
} from "../../command.js";
import { galleryOptions, withGalleries } from "./data-folder.js";

/** Says what checks have found; the command fails where that is anything. */
export function reportChecks(
  { out }: CommandContext,
  checks: readonly GalleryCheck[],
): JsonObject | FailedRun {
  let problems = 0;
  const galleries = checks.map(({ brokenEntries: _, ...found }) => {
    problems += found.problems.length;
    out.line(
      `${found.gallery}: ${found.entries} entries, ${found.indexed} in the index, ` +
        (found.problems.length === 0
          ? "no problem"
          : `problems: ${found.problems.length}`),
    );
    for (const problem of found.problems) out.line(`  ${problem}`);
    return { ...found };
  });
  const result = { galleries };
  return problems > 0
    ? new FailedRun(new IndexProblemsError(problems), result)
    : result;
}

/** Checks a gallery, and shows how far that is. */
export async function checkOf(
  { out }: CommandContext,
  gallery: Gallery,
): Promise<GalleryCheck> {
  const { entryCount } = gallery.describe();
  const progress = out.progress(`check ${gallery.name}`, entryCount);
  return gallery
    .check((done) => progress.update(done))
    .finally(() => progress.end());
}

/** `reid index check`: whether index and store agree. */
export const check: Command = {
  name: "check",
  summary: "whether index and store agree; exit code 1 where they do not",
  usage: "--data DIR [--gallery NAME]",
  options: galleryOptions,
  run: (context) =>
    withGalleries(context, async (galleries) => {
      const checks: GalleryCheck[] = [];
      for (const gallery of galleries)
        checks.push(await checkOf(context, gallery));
      return reportChecks(context, checks);
    }),
};
