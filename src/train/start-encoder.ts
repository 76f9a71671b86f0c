import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { ConfigError } from "#core/errors";
import type { Model } from "#onnx/graph";
import { readModel } from "#onnx/model";
import { encoders, isEncoderName } from "./encoders.js";
import type { TrainOptions } from "./settings.js";

/** The encoder a run starts from. */
export interface StartEncoder {
  /** float32 [batch, 3, H, W] in, [batch, D] out. */
  readonly encoder: Model;
  /** The table's name, or the file's without its folder. */
  readonly name: string;
  readonly pretrained: boolean;
  readonly heightPx: number;
  readonly widthPx: number;
  /** For people: what was opened, what matched. */
  readonly messages: readonly string[];
}

/**
 * Builds or reads the encoder a run starts from.
 *
 * @throws {ConfigError}        neither a built-in name nor an ONNX file
 * @throws {OnnxMalformedError} the file is not ONNX
 */
export async function openStartEncoder(
  options: TrainOptions,
): Promise<StartEncoder> {
  const name = options.encoder ?? "resnet50";
  if (isEncoderName(name)) return build(name, options);
  if (name.toLowerCase().endsWith(".onnx")) return read(name, options);
  throw new ConfigError(
    "encoder",
    `"${name}"`,
    `an ONNX file, or one of ${Object.keys(encoders).join(", ")}`,
  );
}

async function build(
  name: keyof typeof encoders,
  options: TrainOptions,
): Promise<StartEncoder> {
  const entry = encoders[name];
  const heightPx = options.heightPx ?? entry.heightPx;
  const widthPx = options.widthPx ?? entry.widthPx;
  const encoder = entry.build({
    heightPx,
    widthPx,
    seed: options.seed ?? 1,
    features: options.features ?? 0,
  });
  return {
    encoder,
    name,
    pretrained: false,
    heightPx,
    widthPx,
    messages: [],
  };
}

async function read(
  path: string,
  options: TrainOptions,
): Promise<StartEncoder> {
  const encoder = readModel(await readFile(path));
  const [, , height, width] = encoder.graph.inputs[0].dims;
  return {
    encoder,
    name: basename(path),
    pretrained: true,
    heightPx: options.heightPx ?? sizeOf(height, 256),
    widthPx: options.widthPx ?? sizeOf(width, 128),
    messages: [],
  };
}

function sizeOf(dimension: number | string | undefined, other: number): number {
  return typeof dimension === "number" && dimension > 0 ? dimension : other;
}
