/** The file formats that crops come in, told by their first bytes. */
export type CropFormat = "jpeg" | "png" | "webp";

/** What a file's header says, before a pixel is decoded. Sides as stored: EXIF orientation is not applied. */
export interface CropHeader {
  readonly format: CropFormat;
  readonly widthPx: number;
  readonly heightPx: number;
}

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** The format that a file's first bytes announce; undefined: none that crops may have. */
export function formatOf(bytes: Uint8Array): CropFormat | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff)
    return "jpeg";
  if (PNG_SIGNATURE.every((byte, i) => bytes[i] === byte)) return "png";
  if (ascii(bytes, 0, "RIFF") && ascii(bytes, 8, "WEBP")) return "webp";
  return undefined;
}

/**
 * Reads format and size from a file's header without decoding it.
 *
 * Source: ITU T.81 (JPEG frame header), W3C PNG (IHDR), RFC 9649 (WebP).
 *
 * @returns  undefined where the bytes are of another format, or end before the size is known
 */
export function readHeader(bytes: Uint8Array): CropHeader | undefined {
  const format = formatOf(bytes);
  if (format === undefined) return undefined;
  const size = readers[format](
    new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    bytes,
  );
  return size && { format, ...size };
}

interface Size {
  readonly widthPx: number;
  readonly heightPx: number;
}

type SizeReader = (view: DataView, bytes: Uint8Array) => Size | undefined;

const readers: Readonly<Record<CropFormat, SizeReader>> = {
  jpeg: jpegSize,
  png: pngSize,
  webp: webpSize,
};

function pngSize(view: DataView, bytes: Uint8Array): Size | undefined {
  if (view.byteLength < 24 || !ascii(bytes, 12, "IHDR")) return undefined;
  return { widthPx: view.getUint32(16), heightPx: view.getUint32(20) };
}

/** Bytes between segments that are skipped before a file counts as broken; keeps the walk short. */
const MAX_JUNK_BYTES = 64 * 1024;

/** Walks the segments to the first frame header (SOF0 to SOF15 but DHT, JPG and DAC). */
function jpegSize(view: DataView): Size | undefined {
  let at = 2;
  let junkBytes = 0;
  while (at + 4 <= view.byteLength && junkBytes < MAX_JUNK_BYTES) {
    // Junk between segments and fill bytes are skipped, as libjpeg does; what it makes of the file is its own matter.
    if (view.getUint8(at) !== 0xff) {
      at += 1;
      junkBytes += 1;
      continue;
    }
    const marker = view.getUint8(at + 1);
    if (marker === 0xff || marker === 0x00) {
      at += 1;
      junkBytes += 1;
      continue;
    }
    const isFrame =
      marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      if (at + 9 > view.byteLength) return undefined;
      return {
        heightPx: view.getUint16(at + 5),
        widthPx: view.getUint16(at + 7),
      };
    }
    // Pixels (SOS) or the end (EOI) before any frame: no size.
    if (marker === 0xda || marker === 0xd9) return undefined;
    const isAlone = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    at += isAlone ? 2 : 2 + view.getUint16(at + 2);
  }
  return undefined;
}

function webpSize(view: DataView, bytes: Uint8Array): Size | undefined {
  if (view.byteLength < 30) return undefined;
  if (ascii(bytes, 12, "VP8X")) {
    const uint24 = (at: number) =>
      view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    return { widthPx: uint24(24) + 1, heightPx: uint24(27) + 1 };
  }
  if (ascii(bytes, 12, "VP8L")) {
    const bits = view.getUint32(21, true);
    return {
      widthPx: (bits & 0x3fff) + 1,
      heightPx: ((bits >>> 14) & 0x3fff) + 1,
    };
  }
  if (ascii(bytes, 12, "VP8 ")) {
    return {
      widthPx: view.getUint16(26, true) & 0x3fff,
      heightPx: view.getUint16(28, true) & 0x3fff,
    };
  }
  return undefined;
}

function ascii(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++)
    if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}
