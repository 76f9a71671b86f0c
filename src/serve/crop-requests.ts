import type { RawPixels } from "#core/image";
import { encodePng } from "#core/image";
import { cropFromRaw } from "#core/image";
import { ReidError } from "#core/errors";
import { FieldInvalidError } from "./errors.js";
import { microseconds, optionalId, wordFrom } from "./fields.js";
import type { Crop__Output } from "./generated/reid/v1/Crop.js";
import type { RawPixels__Output } from "./generated/reid/v1/RawPixels.js";
import type { CropInput } from "./inference.js";

/** A crop of a request with what the camera knows of it, parsed. */
export interface RequestCrop {
  readonly input: CropInput;
  /** Path of the crop in the request. */
  readonly field: string;
  readonly cropId: string;
  readonly cameraId: string;
  readonly trackId: string;
  readonly capturedAtUs: number | undefined;
}

const pixelFormats = { RGB8: "rgb8", BGR8: "bgr8" } as const;

/**
 * Parses a crop. Whether its pixels can be decoded is found out later, with the others.
 *
 * @throws {FieldInvalidError}
 */
export function cropFromWire(crop: Crop__Output, field: string): RequestCrop {
  const { raw } = crop;
  const isRaw = raw !== null && raw !== undefined;
  return {
    input: isRaw
      ? { raw: rawFromWire(raw, `${field}.raw`) }
      : { encoded: crop.encoded ?? new Uint8Array() },
    field,
    cropId: optionalId(crop.cropId, `${field}.crop_id`),
    cameraId: optionalId(crop.cameraId, `${field}.camera_id`),
    trackId: optionalId(crop.trackId, `${field}.track_id`),
    capturedAtUs: microseconds(crop.capturedAt, `${field}.captured_at`),
  };
}

/** The path in the request that a failure of a crop's pixels is about. */
export function pixelsField(crop: RequestCrop, error: ReidError): string {
  const { input, field } = crop;
  if (!("raw" in input)) return `${field}.encoded`;
  const { widthPx, heightPx, strideBytes = 3 * widthPx } = input.raw;
  const parts: Readonly<Record<string, string>> = {
    CROP_EMPTY: ".data",
    CROP_TOO_SMALL: widthPx <= heightPx ? ".width_px" : ".height_px",
    CROP_TOO_LARGE: widthPx >= heightPx ? ".width_px" : ".height_px",
    PIXELS_SIZE: strideBytes < 3 * widthPx ? ".stride_bytes" : ".data",
  };
  return `${field}.raw${parts[error.code] ?? ""}`;
}

/** The outcome of `parse`, or the failure it threw: one item's failure is not the call's. */
export function attempt<Value>(parse: () => Value): Value | ReidError {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ReidError) return error;
    throw error;
  }
}

/** As {@link attempt}, where parsing has to ask the gallery. */
export async function attemptAsync<Value>(
  parse: () => Promise<Value>,
): Promise<Value | ReidError> {
  try {
    return await parse();
  } catch (error) {
    if (error instanceof ReidError) return error;
    throw error;
  }
}

/** A crop as a gallery keeps it: the file as it came, raw pixels as PNG. */
export async function keptCrop(input: CropInput): Promise<Uint8Array> {
  if ("encoded" in input) return input.encoded;
  return encodePng(await cropFromRaw(input.raw));
}

function rawFromWire(raw: RawPixels__Output, field: string): RawPixels {
  const format = wordFrom(
    raw.format,
    `${field}.format`,
    "PIXEL_FORMAT",
    pixelFormats,
  );
  const isSideless = raw.widthPx === 0 || raw.heightPx === 0;
  if (isSideless && raw.data.length > 0)
    throw new FieldInvalidError(
      `${field}.${raw.widthPx === 0 ? "width_px" : "height_px"}`,
      0,
      "a whole number from 8 to 4096",
    );
  return {
    data: raw.data,
    format,
    widthPx: raw.widthPx,
    heightPx: raw.heightPx,
    ...(raw.strideBytes === 0 ? {} : { strideBytes: raw.strideBytes }),
  };
}
