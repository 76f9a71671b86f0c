import { NpyFormatError } from "./errors.js";

/** Bytes that the header of our files takes: room for any shape, so that it can be written last. */
export const npyHeaderBytes = 128;

const magic = Buffer.from("\x93NUMPY", "latin1");

/** What the header of a `.npy` file of features says. */
export interface NpyShape {
  readonly rows: number;
  readonly columns: number;
  /** Where the numbers begin. */
  readonly offset: number;
}

/**
 * The header of a `.npy` file of float32 [rows, columns], version 1.0.
 *
 * Source: numpy/numpy numpy/lib/format.py (layout of magic, version, length and dictionary).
 */
export function npyHeader(rows: number, columns: number): Uint8Array {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const length = npyHeaderBytes - magic.length - 4;
  const header = Buffer.from(`${text.padEnd(length - 1)}\n`, "latin1");
  const size = Buffer.alloc(2);
  size.writeUInt16LE(length);
  return Buffer.concat([magic, Buffer.of(1, 0), size, header]);
}

/**
 * Reads the header of a `.npy` file, versions 1 to 3.
 *
 * @param head  the file's first bytes, 64 KiB or all of it
 * @throws {NpyFormatError} not of that format, or not float32 [rows, columns] row by row
 */
export function parseNpyHeader(path: string, head: Buffer): NpyShape {
  const fail = (problem: string) => new NpyFormatError(path, problem);
  if (head.length < 12 || !head.subarray(0, 6).equals(magic))
    throw fail("it does not begin as a .npy file does");
  const isLong = head[6] >= 2;
  const length = isLong ? head.readUInt32LE(8) : head.readUInt16LE(8);
  const start = isLong ? 12 : 10;
  const text = head.subarray(start, start + length).toString("latin1");
  if (text.length < length) throw fail("its header is cut short");
  const type = /'descr': *'([^']*)'/.exec(text)?.[1];
  if (type !== "<f4") throw fail(`its numbers are ${type}, not <f4`);
  if (!/'fortran_order': *False/.test(text))
    throw fail("it is stored column by column");
  const shape = /'shape': *\((\d+), *(\d+),? *\)/.exec(text);
  if (shape === null) throw fail("its shape is not [rows, columns]");
  return {
    rows: Number(shape[1]),
    columns: Number(shape[2]),
    offset: start + length,
  };
}
