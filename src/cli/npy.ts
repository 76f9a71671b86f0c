import { open, type FileHandle } from "node:fs/promises";
import { NpyFormatError, npyFacts, npyFrame } from "#core/npy";
import { CropFileNotFoundError } from "./connection.js";

/** A matrix of features in a file. */
export interface NpyFile {
  /** N. */
  readonly count: number;
  /** D. */
  readonly dimension: number;
  readonly encoding: "f32le" | "f16le";
  /** Each row's bytes, little-endian, the caller's own. */
  rows(): AsyncGenerator<Buffer>;
  /** Idempotent. */
  close(): Promise<void>;
}

/** numpy's own limit on the header of a file that is not trusted. */
const MAX_HEADER_BYTES = 10_000;
const READ_BYTES = 1 << 20;

const encodings: Readonly<
  Record<string, { encoding: NpyFile["encoding"]; bytes: number }>
> = {
  "<f4": { encoding: "f32le", bytes: 4 },
  "<f2": { encoding: "f16le", bytes: 2 },
};

/**
 * Opens a .npy file of features; its rows are read as they are asked for.
 *
 * @throws {CropFileNotFoundError} @throws {NpyFormatError}
 */
export async function openNpy(path: string): Promise<NpyFile> {
  const handle = await open(path, "r").catch((cause: unknown) => {
    throw new CropFileNotFoundError(path, { cause });
  });
  try {
    return await readHeader(path, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeader(path: string, handle: FileHandle): Promise<NpyFile> {
  const head = await readAt(handle, 0, 12);
  const frame = npyFrame(head);
  if (frame === undefined) throw new NpyFormatError(path, "is no .npy file");
  const { start, length } = frame;
  if (length > MAX_HEADER_BYTES)
    throw new NpyFormatError(path, `has a header of ${length} bytes`);
  const {
    type = "",
    isRowMajor,
    shape,
  } = npyFacts(await readAt(handle, start, length));
  if (!Object.hasOwn(encodings, type))
    throw new NpyFormatError(path, `holds numbers of type "${type}"`);
  if (!isRowMajor) throw new NpyFormatError(path, "is in Fortran order");
  if (shape === undefined)
    throw new NpyFormatError(path, "does not hold a matrix");
  const [count, dimension] = shape;
  const { encoding, bytes } = encodings[type];
  const rowBytes = dimension * bytes;
  const { size } = await handle.stat();
  const wanted = start + length + count * rowBytes;
  if (size !== wanted || dimension === 0)
    throw new NpyFormatError(
      path,
      `has ${size} bytes where [${count}, ${dimension}] needs ${wanted}`,
    );
  return {
    count,
    dimension,
    encoding,
    rows: async function* () {
      const atOnce = Math.max(1, Math.floor(READ_BYTES / rowBytes));
      for (let row = 0; row < count; row += atOnce) {
        const rows = Math.min(atOnce, count - row);
        const at = start + length + row * rowBytes;
        const block = await readAt(handle, at, rows * rowBytes);
        for (let i = 0; i < rows; i++)
          yield block.subarray(i * rowBytes, (i + 1) * rowBytes);
      }
    },
    close: () => handle.close(),
  };
}

async function readAt(
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}
