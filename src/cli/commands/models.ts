import { createHash } from "node:crypto";
import { basename } from "node:path";
import {
  hasModelsFolder,
  listBundles,
  type Manifest,
  noModelsFolder,
  readBundle,
  resolveBundle,
  writeBundle,
} from "#core/manifest";
import { readModel, writeModel } from "#onnx/model";
import { PIXEL_DEVIATION, PIXEL_MEAN } from "#train/augmentation";
import { checkServeable } from "#train/bundle-check";
import { encoderFromModel, readEncoderFile } from "#train/encoder-file";
import { serveableEncoder } from "#train/export";
import {
  type Command,
  type CommandContext,
  type Flags,
  type JsonObject,
  numberFlag,
  requiredFlag,
  textFlag,
  UsageError,
} from "../command.js";

/** Largest crop side that the API takes (docs/api.md, Crop). */
const LARGEST_SIDE_PX = 4096;

const modelsOption = {
  type: "string",
  placeholder: "DIR",
  description: "folder of published models",
  default: "models",
} as const;

const importCommand: Command = {
  name: "import",
  summary: "turn an ONNX encoder into a bundle",
  usage: "FILE.onnx --name NAME [flags]",
  options: {
    name: {
      type: "string",
      placeholder: "NAME",
      description: "name to publish under",
    },
    out: modelsOption,
    height: {
      type: "string",
      placeholder: "PX",
      description: "crop height; default the encoder's own",
    },
    width: {
      type: "string",
      placeholder: "PX",
      description: "crop width; default the encoder's own",
    },
    mean: {
      type: "string",
      placeholder: "R,G,B",
      description: "mean of the scaled channels",
      default: PIXEL_MEAN.join(","),
    },
    std: {
      type: "string",
      placeholder: "R,G,B",
      description: "deviation of the scaled channels",
      default: PIXEL_DEVIATION.join(","),
    },
    scale: {
      type: "string",
      placeholder: "X",
      description:
        "factor on the pixels, before mean and deviation; default 1/255",
    },
    "feature-node": {
      type: "string",
      placeholder: "NAME",
      description:
        "node or value that is the feature, where it is not the only output",
    },
  },
  takesPaths: true,
  run: runImport,
};

/** `reid models import`: preprocessing in front, L2 behind, checked, versioned. */
async function runImport({
  flags,
  positionals,
  out,
}: CommandContext): Promise<JsonObject> {
  const [file, ...rest] = positionals;
  if (file === undefined || rest.length > 0)
    throw new UsageError(
      "models import takes one file: reid models import FILE.onnx --name NAME",
    );
  const name = requiredFlag(flags, "name");
  const range = { minimum: 1, maximum: LARGEST_SIDE_PX, integer: true };
  const bytes = await readEncoderFile(file);
  const { model, heightPx, widthPx, dimension } = encoderFromModel(
    readModel(bytes),
    {
      heightPx: numberFlag(flags, "height", range),
      widthPx: numberFlag(flags, "width", range),
      featureNode: textFlag(flags, "feature-node"),
    },
  );
  const preprocessing = {
    mean: channels(flags, "mean"),
    std: channels(flags, "std"),
    scale: numberFlag(flags, "scale") ?? 1 / 255,
  };
  if (preprocessing.std.includes(0))
    throw new UsageError(
      `--std is "${textFlag(flags, "std") ?? ""}": expected numbers other than 0`,
    );
  const size = { heightPx, widthPx };
  const encoder = writeModel(
    serveableEncoder(model, { ...size, ...preprocessing }),
  );
  await checkServeable(encoder, { ...size, dimension });
  const { folder, manifest } = await writeBundle(
    requiredFlag(flags, "out"),
    name,
    encoder,
    {
      ...size,
      dimension,
      training: {
        method: "import",
        file: basename(file),
        sha256: createHash("sha256").update(bytes).digest("hex"),
        preprocessing,
      },
    },
  );
  out.line(`imported ${basename(file)} as ${name} version ${manifest.version}`);
  out.line(
    `takes crops of ${heightPx} × ${widthPx}, gives features of ${dimension} numbers: ${folder}`,
  );
  return { folder, ...described(manifest) };
}

/** Three numbers, or one for all three channels. */
function channels(flags: Flags, flag: string): readonly number[] {
  const text = requiredFlag(flags, flag);
  const values = text
    .split(",")
    .map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (!values.every(Number.isFinite) || ![1, 3].includes(values.length))
    throw new UsageError(
      `--${flag} is "${text}": expected one number or three with commas between`,
      text,
    );
  return values.length === 1 ? [values[0], values[0], values[0]] : values;
}

const listCommand: Command = {
  name: "list",
  summary: "list the published models",
  usage: "[--models DIR]",
  options: { models: modelsOption },
  run: runList,
};

/** `reid models list`: by name, version rising; broken bundles are named on stderr. */
async function runList({ flags, out }: CommandContext): Promise<JsonObject> {
  const models = requiredFlag(flags, "models");
  // Somebody who names a folder means one: a list of nothing would hide a typing error.
  if (!(await hasModelsFolder(models)))
    throw noModelsFolder(models, "not there");
  const { bundles, broken } = await listBundles(models);
  const rows = bundles.map(({ manifest: m }) => [
    m.name,
    m.version,
    `${m.heightPx} × ${m.widthPx}`,
    m.dimension,
    m.metrics["mAP"] === undefined ? "" : (100 * m.metrics["mAP"]).toFixed(1),
    m.sha256.slice(0, 12),
  ]);
  out.table([
    ["name", "version", "crop", "dimension", "mAP", "sha256"],
    ...rows,
  ]);
  for (const { error } of broken) out.warn(error.message);
  return {
    models: bundles.map(({ folder, manifest }) => ({
      folder,
      ...described(manifest),
    })),
    broken: broken.map(({ folder, error }) => ({
      folder,
      code: error.code,
      message: error.message,
    })),
  };
}

const showCommand: Command = {
  name: "show",
  summary: "show one bundle's manifest",
  usage: "BUNDLE",
  options: {},
  takesPaths: true,
  run: runShow,
};

/** `reid models show`: reads and checks one bundle. */
async function runShow({
  positionals,
  out,
}: CommandContext): Promise<JsonObject> {
  const [path, ...rest] = positionals;
  if (path === undefined || rest.length > 0)
    throw new UsageError(
      "models show takes one bundle: a run's folder, a bundle's folder, or MODELS/NAME",
    );
  const { folder, manifest } = await readBundle(await resolveBundle(path));
  out.line(JSON.stringify(manifest, null, 2));
  return { folder, ...described(manifest) };
}

function described(manifest: Manifest): JsonObject {
  return { ...manifest };
}

/** `reid models`: bundles on disk; no server is asked. */
export const command: Command = {
  name: "models",
  summary: "import, list and show encoders",
  usage: "import|list|show",
  options: {},
  subcommands: { import: importCommand, list: listCommand, show: showCommand },
};
