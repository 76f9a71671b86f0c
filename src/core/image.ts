import sharp, { type Sharp } from "sharp";
import {
  CropEmptyError,
  CropTooLargeError,
  CropTooSmallError,
  CropUndecodableError,
  PixelsSizeError,
} from "./image-errors.js";
import { formatOf, readHeader, type CropFormat } from "./image-header.js";

/** Pixels in memory: uint8 RGB, rows top to bottom, no padding. */
export interface Pixels {
  /** uint8 [heightPx, widthPx, 3] RGB. */
  readonly data: Uint8Array;
  readonly heightPx: number;
  readonly widthPx: number;
}

/** A decoded crop and the format it came in. */
export interface DecodedCrop extends Pixels {
  readonly format: CropFormat | "raw";
}

/** Raw pixels as a caller sends them. */
export interface RawPixels {
  /** uint8, rows top to bottom; only read. */
  readonly data: Uint8Array;
  readonly format: "rgb8" | "bgr8";
  readonly widthPx: number;
  readonly heightPx: number;
  /** Bytes from row to row, at least 3 · widthPx; default 3 · widthPx. */
  readonly strideBytes?: number;
}

/** What a crop may cost; api.md 3 and 12. */
export interface CropLimits {
  /** Bytes of an encoded file. */
  readonly encodedBytes: number;
  /** Shortest and longest side, px. */
  readonly minSidePx: number;
  readonly maxSidePx: number;
  /** Width times height, px. */
  readonly pixels: number;
}

/** The defaults of api.md 3: 4 MiB, sides 8 to 4096 px, 4 Mi pixels. */
export const defaultCropLimits: CropLimits = {
  encodedBytes: 4 * 1024 * 1024,
  minSidePx: 8,
  maxSidePx: 4096,
  pixels: 4 * 1024 * 1024,
};

/** A size to resize to; the aspect is not kept. */
export interface PixelSize {
  readonly heightPx: number;
  readonly widthPx: number;
}

/** How a crop is decoded. */
export interface DecodeOptions {
  /** Default {@link defaultCropLimits}. */
  readonly limits?: CropLimits;
  /** Default: the size it has, after EXIF orientation. */
  readonly resize?: PixelSize;
}

// A crop is one small picture among many: parallelism is over crops (libuv's pool), not inside one, and no
// picture comes twice, so libvips' operation cache would only hold memory.
sharp.concurrency(1);
sharp.cache(false);

/** A crop within the limits takes milliseconds; a file made to take longer (thousands of progressive scans) is broken. */
const DECODE_TIMEOUT_S = 10;

/**
 * Decodes a crop: JPEG, PNG or WebP, told by its first bytes, first frame only.
 *
 * EXIF orientation is applied, grey repeated, CMYK turned into sRGB, alpha laid over black, 16 bits cut to
 * their upper 8; embedded colour profiles are ignored, as they are where encoders are trained. The limits
 * hold for what the header says, before a pixel is decoded. Work is done on libuv's threads.
 *
 * @param bytes  the file; only read, until the promise settles
 * @returns      uint8 [H, W, 3] RGB, owned by the caller
 * @throws {CropEmptyError}        zero bytes
 * @throws {CropTooLargeError}     file, side or pixels over the limit
 * @throws {CropTooSmallError}     a side under the limit
 * @throws {CropUndecodableError}  another format, or broken or cut short
 */
export async function decodeCrop(
  bytes: Uint8Array,
  options: DecodeOptions = {},
): Promise<DecodedCrop> {
  const limits = options.limits ?? defaultCropLimits;
  const header = checkEncoded(bytes, limits);
  const pixels = await decodeWhole(bytes, header.format, limits);
  // A file that lied about its size: libvips stops at what the header says, but the two must agree.
  if (pixels.widthPx * pixels.heightPx !== header.widthPx * header.heightPx) {
    throw new CropUndecodableError(
      header.format,
      bytes.byteLength,
      `its header says ${header.widthPx} x ${header.heightPx} px but it holds ${pixels.widthPx} x ${pixels.heightPx}`,
    );
  }
  return {
    ...(await resizeIfAsked(pixels, options.resize)),
    format: header.format,
  };
}

/**
 * Checks an encoded crop by its header alone, without decoding a pixel.
 *
 * @returns  format and stored size
 * @throws as {@link decodeCrop}
 */
export function checkEncoded(
  bytes: Uint8Array,
  limits: CropLimits = defaultCropLimits,
): { readonly format: CropFormat } & PixelSize {
  const receivedBytes = bytes.byteLength;
  if (receivedBytes === 0) throw new CropEmptyError();
  if (receivedBytes > limits.encodedBytes) {
    throw new CropTooLargeError(
      { receivedBytes },
      `${limits.encodedBytes} bytes`,
    );
  }
  const header = readHeader(bytes);
  if (header === undefined) {
    const format = formatOf(bytes);
    throw format === undefined
      ? new CropUndecodableError(
          "unknown",
          receivedBytes,
          "its first bytes are of no format that is read here",
        )
      : new CropUndecodableError(
          format,
          receivedBytes,
          "its header says no size",
        );
  }
  checkSides(header, receivedBytes, limits);
  return header;
}

/**
 * Checks raw pixels against their own width, height and stride, and the limits.
 *
 * @returns  bytes from row to row
 * @throws {CropEmptyError}     zero bytes
 * @throws {CropTooLargeError}  side or pixels over the limit
 * @throws {CropTooSmallError}  a side under the limit
 * @throws {PixelsSizeError}    stride or length do not fit
 */
export function checkRaw(
  raw: RawPixels,
  limits: CropLimits = defaultCropLimits,
): number {
  const receivedBytes = raw.data.byteLength;
  if (receivedBytes === 0) throw new CropEmptyError();
  checkSides(raw, receivedBytes, limits);
  const rowBytes = 3 * raw.widthPx;
  const strideBytes = raw.strideBytes ?? rowBytes;
  const leastBytes = strideBytes * (raw.heightPx - 1) + rowBytes;
  if (
    strideBytes < rowBytes ||
    receivedBytes < leastBytes ||
    receivedBytes > strideBytes * raw.heightPx
  ) {
    throw new PixelsSizeError(
      strideBytes,
      Math.max(strideBytes, rowBytes) * (raw.heightPx - 1) + rowBytes,
      receivedBytes,
    );
  }
  return strideBytes;
}

/**
 * Takes raw pixels as a crop: checked, BGR turned into RGB, rows packed, resized if asked.
 *
 * @param raw  only read, until the promise settles
 * @returns    uint8 [H, W, 3] RGB, owned by the caller
 * @throws as {@link checkRaw}
 */
export async function cropFromRaw(
  raw: RawPixels,
  options: DecodeOptions = {},
): Promise<DecodedCrop> {
  const strideBytes = checkRaw(raw, options.limits ?? defaultCropLimits);
  const { heightPx, widthPx } = raw;
  const packed = { data: packRows(raw, strideBytes), heightPx, widthPx };
  const resized = await resizeIfAsked(packed, options.resize);
  const isOwn = resized.data !== raw.data;
  const data = isOwn ? resized.data : resized.data.slice();
  // Channels are independent, so they change places after resizing, where there are few pixels.
  if (raw.format === "bgr8") swapRedAndBlue(data);
  return { ...resized, data, format: "raw" };
}

/**
 * Resizes to exactly H × W, bicubic with antialiasing; the aspect is not kept.
 *
 * Catmull-Rom in both directions, on the 8-bit values as they are (no linear light), so that a file and the
 * same pixels sent raw give the same crop. Work is done on libuv's threads.
 *
 * @param pixels  only read, until the promise settles
 * @returns       uint8 [heightPx, widthPx, 3] RGB, owned by the caller
 */
export async function resizePixels(
  pixels: Pixels,
  size: PixelSize,
): Promise<Pixels> {
  const { data } = await fromPixels(pixels)
    .resize({
      width: size.widthPx,
      height: size.heightPx,
      fit: "fill",
      kernel: "cubic",
    })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data, heightPx: size.heightPx, widthPx: size.widthPx };
}

/** @returns a JPEG file of the pixels; quality 1 to 100, default 90 */
export async function encodeJpeg(
  pixels: Pixels,
  quality = 90,
): Promise<Uint8Array> {
  return fromPixels(pixels).jpeg({ quality }).toBuffer();
}

/** @returns a PNG file of the pixels, lossless */
export async function encodePng(pixels: Pixels): Promise<Uint8Array> {
  return fromPixels(pixels).png().toBuffer();
}

function checkSides(
  { widthPx, heightPx }: PixelSize,
  receivedBytes: number,
  limits: CropLimits,
): void {
  const facts = { widthPx, heightPx, receivedBytes };
  if (Math.max(widthPx, heightPx) > limits.maxSidePx)
    throw new CropTooLargeError(facts, `${limits.maxSidePx} px a side`);
  if (widthPx * heightPx > limits.pixels)
    throw new CropTooLargeError(facts, `${limits.pixels} pixels`);
  if (Math.min(widthPx, heightPx) < limits.minSidePx)
    throw new CropTooSmallError(widthPx, heightPx, limits.minSidePx);
}

async function decodeWhole(
  bytes: Uint8Array,
  format: CropFormat,
  limits: CropLimits,
): Promise<Pixels> {
  try {
    const { data, info } = await sharp(bytes, {
      failOn: "warning",
      limitInputPixels: limits.pixels,
      autoOrient: true,
      ignoreIcc: true,
      pages: 1,
    })
      .flatten({ background: "#000000" })
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .timeout({ seconds: DECODE_TIMEOUT_S })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3)
      throw new CropUndecodableError(
        format,
        bytes.byteLength,
        `it has ${info.channels} channels`,
      );
    return { data, heightPx: info.height, widthPx: info.width };
  } catch (error) {
    if (error instanceof CropUndecodableError) throw error;
    const line = error instanceof Error ? error.message : String(error);
    throw new CropUndecodableError(
      format,
      bytes.byteLength,
      `the decoder says "${line.trim().split("\n")[0]}"`,
      { cause: error },
    );
  }
}

async function resizeIfAsked(
  pixels: Pixels,
  size: PixelSize | undefined,
): Promise<Pixels> {
  const isThatSize =
    size?.heightPx === pixels.heightPx && size.widthPx === pixels.widthPx;
  return size === undefined || isThatSize ? pixels : resizePixels(pixels, size);
}

function fromPixels({ data, heightPx, widthPx }: Pixels): Sharp {
  return sharp(data, {
    raw: { width: widthPx, height: heightPx, channels: 3 },
  });
}

function packRows(raw: RawPixels, strideBytes: number): Uint8Array {
  const { data, heightPx, widthPx } = raw;
  const rowBytes = 3 * widthPx;
  if (strideBytes === rowBytes) return data;
  const packed = new Uint8Array(rowBytes * heightPx);
  for (let y = 0; y < heightPx; y++) {
    const start = y * strideBytes;
    packed.set(data.subarray(start, start + rowBytes), y * rowBytes);
  }
  return packed;
}

function swapRedAndBlue(data: Uint8Array): void {
  for (let i = 0; i < data.length; i += 3) {
    const first = data[i];
    data[i] = data[i + 2];
    data[i + 2] = first;
  }
}
