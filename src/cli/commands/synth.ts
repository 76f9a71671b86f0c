import { join } from "node:path";
import { renderDomain, sheetCrops, writeContactSheet } from "#train/synth";
import {
  choiceFlag,
  numberFlag,
  requiredFlag,
  UsageError,
  type Command,
} from "../command.js";

const sheetRows = 10;
const sheetColumns = 8;

/** `reid synth`: renders walking people in Market-1501 layout. */
export const command: Command = {
  name: "synth",
  summary:
    "render pedestrians of a source or target domain in Market-1501 layout",
  usage: "--out DIR --domain source|target [flags]",
  options: {
    out: {
      type: "string",
      placeholder: "DIR",
      description: "folder to make; must not exist, or be empty",
    },
    domain: {
      type: "string",
      placeholder: "source|target",
      description: "a bright street, or a dim hall",
    },
    ids: {
      type: "string",
      placeholder: "N",
      default: "60",
      description: "identities to train on",
    },
    "test-ids": {
      type: "string",
      placeholder: "N",
      description:
        "further identities for query and gallery (default: as many as --ids)",
    },
    cameras: {
      type: "string",
      placeholder: "C",
      default: "6",
      description: "cameras, 1 to 9",
    },
    "images-per-id": {
      type: "string",
      placeholder: "M",
      default: "16",
      description: "crops of a training identity, spread over the cameras",
    },
    "test-images-per-id": {
      type: "string",
      placeholder: "M",
      description:
        "crops of a test identity; the first of each camera is a query (default: as --images-per-id)",
    },
    seed: {
      type: "string",
      placeholder: "S",
      default: "1",
      description: "the same seed gives the same bytes",
    },
    height: {
      type: "string",
      placeholder: "PX",
      default: "128",
      description: "height of a crop",
    },
    width: {
      type: "string",
      placeholder: "PX",
      default: "64",
      description: "width of a crop",
    },
    threads: {
      type: "string",
      placeholder: "N",
      description: "worker threads (default: one a core)",
    },
  },
  async run({ flags, out, signal }) {
    const whole = (name: string, minimum: number, maximum: number) =>
      numberFlag(flags, name, { minimum, maximum, integer: true });
    const domain = choiceFlag(flags, "domain", ["source", "target"] as const);
    if (domain === undefined)
      throw new UsageError(
        "--domain is missing: give source or target",
        "--domain",
      );
    const identities = whole("ids", 0, 4000) ?? 60;
    const cropsPerIdentity = whole("images-per-id", 1, 1000) ?? 16;
    const testIdentities = whole("test-ids", 0, 4000) ?? identities;
    const cameras = whole("cameras", 1, 9) ?? 6;
    const testCropsPerIdentity =
      whole("test-images-per-id", 1, 1000) ?? cropsPerIdentity;
    const threads = whole("threads", 1, 256);
    const total =
      identities * cropsPerIdentity + testIdentities * testCropsPerIdentity;
    const progress = out.progress(`rendering ${domain}`, total);
    const summary = await renderDomain({
      out: requiredFlag(flags, "out"),
      domain,
      identities,
      testIdentities,
      cameras,
      cropsPerIdentity,
      testCropsPerIdentity,
      seed: whole("seed", 0, Number.MAX_SAFE_INTEGER) ?? 1,
      heightPx: whole("height", 32, 1024) ?? 128,
      widthPx: whole("width", 16, 512) ?? 64,
      ...(threads === undefined ? {} : { threads }),
      onProgress: (done) => progress.update(done),
      signal,
    }).finally(() => progress.end());
    const sheet = join(summary.folder, "contact-sheet.png");
    if (identities > 0)
      await writeContactSheet(
        sheet,
        await sheetCrops(summary.folder, sheetRows, sheetColumns),
        { columns: sheetColumns },
      );
    out.line(
      `${summary.train} training crops of ${identities} identities, ${summary.query} queries and ${summary.gallery} gallery crops of ${testIdentities} others in ${summary.folder}`,
    );
    return { ...summary, ...(identities > 0 ? { contactSheet: sheet } : {}) };
  },
};
