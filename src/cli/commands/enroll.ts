import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  choiceFlag,
  FailedRun,
  hasFlag,
  requiredFlag,
  textFlag,
  UsageError,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";
import type { Client } from "../client.js";
import {
  connectionOptions,
  cropFiles,
  CropsRefusedError,
  labelledCrops,
  modelFromFlag,
  withClient,
} from "../connection.js";
import {
  enrollCrops,
  enrollFeatures,
  type EnrollItem,
  type EnrollReport,
} from "../enrolling.js";
import { openNpy, type NpyFile } from "../npy.js";
import type { LabelledCrop, TransferOptions } from "../retrieval.js";

/** `reid enroll`: crops or features into a gallery. */
export const command: Command = {
  name: "enroll",
  summary: "enroll crops or features into a gallery",
  usage: "--gallery NAME FILES…|DIR|FILE.npy [--create] [flags]",
  options: {
    ...connectionOptions,
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
    model: {
      type: "string",
      placeholder: "NAME/VERSION",
      description:
        "that made the features of a .npy file; default the gallery's, external/1 of one that is made",
    },
    identity: {
      type: "string",
      placeholder: "ID",
      description: "of all entries; default unknown, or from the file names",
    },
    camera: {
      type: "string",
      placeholder: "ID",
      description: "of all entries; default unknown, or from the file names",
    },
  },
  takesPaths: true,
  run,
};

/** What is to be enrolled. */
interface Load {
  readonly count: number;
  /** Of the features; undefined: crops are embedded by the gallery's model. */
  readonly features: NpyFile | undefined;
  send(
    client: Client,
    gallery: string,
    options: TransferOptions,
  ): Promise<EnrollReport>;
}

async function run(context: CommandContext): Promise<JsonObject | FailedRun> {
  const { flags, out, signal } = context;
  const gallery = requiredFlag(flags, "gallery");
  const index = choiceFlag(flags, "index", ["hnsw", "flat"]) ?? "hnsw";
  const load = await loadFrom(context);
  try {
    return await withClient(context, async (client) => {
      if (hasFlag(flags, "create"))
        await createMissing(client, gallery, {
          index,
          features: load.features,
          model: textFlag(flags, "model"),
        });
      const progress = out.progress("enroll", load.count);
      const started = performance.now();
      const report = await load.send(client, gallery, {
        signal,
        onProgress: (done) => progress.update(done),
      });
      const seconds = (performance.now() - started) / 1000;
      progress.end();
      for (const { path, message } of report.failed)
        out.line(`${path}: ${message}`);
      const entriesPerSecond = Math.round(report.enrolled / seconds);
      const what = load.features === undefined ? "crops" : "features";
      out.line(
        `${report.enrolled} of ${load.count} ${what} enrolled into ${gallery} ` +
          `at ${entriesPerSecond} a second, sequence ${report.sequence}`,
      );
      const result = { gallery, ...report, entriesPerSecond };
      if (report.enrolled > 0 || load.count === 0) return result;
      const reasons = report.failed.map(({ reason }) => reason);
      return new FailedRun(new CropsRefusedError("enrolled", reasons), result);
    });
  } finally {
    await load.features?.close();
  }
}

async function loadFrom({ flags, positionals }: CommandContext): Promise<Load> {
  const identity = textFlag(flags, "identity");
  const cameraId = textFlag(flags, "camera");
  const matrix = positionals.find((path) => path.endsWith(".npy"));
  if (matrix === undefined) {
    if (textFlag(flags, "model") !== undefined)
      throw new UsageError(
        "--model is for a .npy file: crops are embedded by the gallery's model",
        "--model",
      );
    const crops = (await cropsFrom(positionals)).map((crop) => ({
      path: crop.path,
      identity: identity ?? crop.identity,
      cameraId: cameraId ?? crop.cameraId,
    }));
    return {
      count: crops.length,
      features: undefined,
      send: (client, gallery, options) =>
        enrollCrops(client, gallery, crops, options),
    };
  }
  if (positionals.length > 1)
    throw new UsageError("give one .npy file, or crops", matrix);
  const asked = modelFromFlag(textFlag(flags, "model"));
  const features = await openNpy(matrix);
  return {
    count: features.count,
    features,
    send: async (client, gallery, options) => {
      const found = await client.GalleryService.GetGallery({ gallery });
      const model = asked ?? found.gallery?.model ?? null;
      const items = featureItems(features, {
        name: basename(matrix, ".npy"),
        entry: { identity: identity ?? "", cameraId: cameraId ?? "" },
        model,
      });
      return enrollFeatures(client, gallery, items, options);
    },
  };
}

/** The rows of a file as entries under its name and their number. */
async function* featureItems(
  features: NpyFile,
  as: {
    readonly name: string;
    readonly entry: { readonly identity: string; readonly cameraId: string };
    readonly model: { readonly name: string; readonly version: number } | null;
  },
): AsyncGenerator<EnrollItem> {
  let row = 0;
  for await (const bytes of features.rows()) {
    const path = `${as.name}/${row++}`;
    yield {
      path,
      enrollment: {
        feature: { [features.encoding]: bytes, model: as.model },
        entry: { ...as.entry, entryId: path.slice(-128) },
      },
    };
  }
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
  like: {
    readonly index: "hnsw" | "flat";
    readonly features: NpyFile | undefined;
    readonly model: string | undefined;
  },
): Promise<void> {
  const { galleries } = await client.GalleryService.ListGalleries({
    pageSize: 1000,
  });
  if (galleries.some((gallery) => gallery.name === name)) return;
  const { index, features } = like;
  await client.GalleryService.CreateGallery({
    gallery: {
      name,
      index: index === "flat" ? { flat: {} } : { hnsw: {} },
      ...(features === undefined
        ? {}
        : {
            model: modelFromFlag(like.model ?? "external/1"),
            dimension: features.dimension,
          }),
    },
  });
}
