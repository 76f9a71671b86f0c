import { adviseIndex, recommended, type Advice } from "#index/advice";
import type { Gallery } from "#index/gallery";
import {
  numberFlag,
  requiredFlag,
  UsageError,
  type Command,
} from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

const defaultSample = 20_000;
const defaultRecall = 0.95;
/** Held back from the sample to search with: at most so many, and at most a fifth. */
const mostQueries = 500;
/** Fewest entries that say anything. */
const fewestEntries = 50;
const pageSize = 512;

/** Features spread evenly over a gallery's entries. @returns float32 [N, D] */
async function sampleOf(
  gallery: Gallery,
  wanted: number,
): Promise<Float32Array> {
  const { dimension, entryCount } = gallery.describe();
  const count = Math.min(wanted, entryCount);
  const sample = new Float32Array(count * dimension);
  let seen = 0;
  let taken = 0;
  let afterSequence = 0;
  for (;;) {
    const page = await gallery.listEntries({
      ...{ afterSequence, pageSize },
      view: "feature",
    });
    for (const { feature } of page.entries) {
      // The i-th of the sample is the first entry at or behind i steps.
      const isNext = taken < count && seen * count >= taken * entryCount;
      if (isNext && feature !== undefined)
        sample.set(feature, taken++ * dimension);
      seen++;
    }
    if (page.nextSequence === undefined) break;
    afterSequence = page.nextSequence;
  }
  return sample.subarray(0, taken * dimension);
}

function nameOf({ spec }: Advice): string {
  const { kind, ...settings } = spec;
  const shown = Object.entries(settings).map(
    ([key, value]) => `${key} ${value}`,
  );
  return [kind, ...shown].join(" ");
}

/** `reid index advise`: which kind of index fits the gallery's own features. */
export const advise: Command = {
  name: "advise",
  summary:
    "measure kinds of index on a gallery's own features, and recommend one",
  usage: "--data DIR --gallery NAME [--sample N] [--min-recall R]",
  options: {
    ...dataOption,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery whose features are tried",
    },
    sample: {
      type: "string",
      placeholder: "N",
      description: "entries tried, spread over the gallery",
      default: String(defaultSample),
    },
    "min-recall": {
      type: "string",
      placeholder: "R",
      description: "share of the true 10 nearest that has to be found",
      default: String(defaultRecall),
    },
  },
  run: (context) =>
    withFolder(context, async ({ galleries }) => {
      const { flags, out, clock, signal } = context;
      const integer = { minimum: fewestEntries, integer: true };
      const wanted = numberFlag(flags, "sample", integer) ?? defaultSample;
      const minRecall =
        numberFlag(flags, "min-recall", { minimum: 0, maximum: 1 }) ??
        defaultRecall;
      const gallery = await galleries.get(requiredFlag(flags, "gallery"));
      const { dimension } = gallery.describe();
      const sample = await sampleOf(gallery, wanted);
      const rows = sample.length / dimension;
      if (rows < fewestEntries)
        throw new UsageError(
          `gallery "${gallery.name}" has ${rows} entries, too few to measure with: flat is exact and fast below ${fewestEntries}`,
          String(rows),
        );
      const held = Math.min(mostQueries, Math.floor(rows / 5));
      const features = sample.subarray(0, (rows - held) * dimension);
      const queries = sample.subarray((rows - held) * dimension);
      const progress = out.progress("advise", 0);
      const advice = await adviseIndex(
        { dimension, features, queries },
        {
          ...{ clock, signal },
          report: (done, total) => progress.update(done, "kinds", total),
        },
      ).finally(() => progress.end());
      const best = recommended(advice, minRecall);
      out.table([
        ["index", "recall@10", "queries/s", "build s", "bytes/entry"],
        ...advice.map((one) => [
          nameOf(one),
          one.recallAt10.toFixed(4),
          one.queriesPerSecond.toFixed(0),
          one.buildSeconds.toFixed(2),
          one.bytesPerEntry.toFixed(0),
        ]),
      ]);
      out.line(
        `recommended: ${nameOf(best)}, the fastest with recall@10 of ${minRecall} or more, ` +
          `on ${rows - held} entries of this gallery and on this machine as it is loaded now`,
      );
      return {
        gallery: gallery.name,
        entries: rows - held,
        queries: held,
        tried: advice.map((one) => ({ ...one, spec: { ...one.spec } })),
        recommended: { ...best.spec },
      };
    }),
};
