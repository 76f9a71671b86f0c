import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  choiceFlag,
  FailedRun,
  hasFlag,
  requiredFlag,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";
import type { Client } from "../client.js";
import {
  addressOption,
  cropFiles,
  CropsRefusedError,
  labelledCrops,
  withClient,
} from "../connection.js";
import { enrollCrops, type LabelledCrop } from "../retrieval.js";

/** `reid enroll`: crops into a gallery. */
export const command: Command = {
  name: "enroll",
  summary: "enroll crops into a gallery",
  usage: "--gallery NAME FILES…|DIR [--create] [flags]",
  options: {
    ...addressOption,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery",
    },
    create: {
      type: "boolean",
      description: "make the gallery where it is not there",
    },
    index: {
      type: "string",
      placeholder: "KIND",
      description: "of a gallery that is made: hnsw or flat; default hnsw",
    },
    identity: {
      type: "string",
      placeholder: "ID",
      description: "of all crops; default unknown, or from the file names",
    },
    camera: {
      type: "string",
      placeholder: "ID",
      description: "of all crops; default unknown, or from the file names",
    },
  },
  takesPaths: true,
  run,
};

async function run(context: CommandContext): Promise<JsonObject | FailedRun> {
  const { flags, positionals, out, signal } = context;
  const gallery = requiredFlag(flags, "gallery");
  const index = choiceFlag(flags, "index", ["hnsw", "flat"]) ?? "hnsw";
  const crops = (await cropsFrom(positionals)).map((crop) => ({
    path: crop.path,
    identity: textFlag(flags, "identity") ?? crop.identity,
    cameraId: textFlag(flags, "camera") ?? crop.cameraId,
  }));
  return withClient(context, async (client) => {
    if (hasFlag(flags, "create")) await createMissing(client, gallery, index);
    const progress = out.progress("enroll", crops.length);
    const report = await enrollCrops(client, gallery, crops, {
      signal,
      onProgress: (done) => progress.update(done),
    });
    progress.end();
    for (const { path, message } of report.failed)
      out.line(`${path}: ${message}`);
    out.line(
      `${report.enrolled} of ${crops.length} crops enrolled into ${gallery}, sequence ${report.sequence}`,
    );
    const result = { gallery, ...report };
    if (report.enrolled > 0) return result;
    const reasons = report.failed.map(({ reason }) => reason);
    return new FailedRun(new CropsRefusedError("enrolled", reasons), result);
  });
}

/** A data set's gallery with its identities and cameras, or plain files. */
async function cropsFrom(
  paths: readonly string[],
): Promise<readonly LabelledCrop[]> {
  if (
    paths.length === 1 &&
    (await isFolder(join(paths[0], "bounding_box_test")))
  )
    return labelledCrops(paths[0], "gallery");
  const files = await cropFiles(paths);
  return files.map((path) => ({ path, identity: "", cameraId: "" }));
}

async function isFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() === true;
}

async function createMissing(
  client: Client,
  name: string,
  index: "hnsw" | "flat",
): Promise<void> {
  const { galleries } = await client.GalleryService.ListGalleries({
    pageSize: 1000,
  });
  if (galleries.some((gallery) => gallery.name === name)) return;
  await client.GalleryService.CreateGallery({
    gallery: { name, index: index === "flat" ? { flat: {} } : { hnsw: {} } },
  });
}
