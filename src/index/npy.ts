import { NpyFormatError, npyFacts, npyFrame, npyMagic } from "#core/npy";

/** Bytes that the header of our files takes: room for any shape, so that it can be written last. */
export const npyHeaderBytes = 128;

/** What the header of a `.npy` file of features says. */
export interface NpyShape {
  readonly rows: number;
  readonly columns: number;
  /** Where the numbers begin. */
  readonly offset: number;
}

/**
 * The header of a `.npy` file of float32 [rows, columns], version 1.0.
 */
export function npyHeader(rows: number, columns: number): Uint8Array {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const length = npyHeaderBytes - npyMagic.length - 4;
  const header = Buffer.from(`${text.padEnd(length - 1)}\n`, "latin1");
  const size = Buffer.alloc(2);
  size.writeUInt16LE(length);
  return Buffer.concat([npyMagic, Buffer.of(1, 0), size, header]);
}

/**
 * Reads the header of a `.npy` file, versions 1 to 3.
 *
 * @param head  the file's first bytes, 64 KiB or all of it
 * @throws {NpyFormatError} not of that format, or not float32 [rows, columns] row by row
 */
export function parseNpyHeader(path: string, head: Buffer): NpyShape {
  const fail = (problem: string) => new NpyFormatError(path, problem);
  const frame = npyFrame(head);
  if (frame === undefined) throw fail("is no .npy file");
  const { start, length } = frame;
  const dictionary = head.subarray(start, start + length);
  if (dictionary.length < length) throw fail("has a header that is cut short");
  const { type, isRowMajor, shape } = npyFacts(dictionary);
  if (type !== "<f4")
    throw fail(`holds numbers of type "${type ?? ""}", not "<f4"`);
  if (!isRowMajor) throw fail("is in Fortran order");
  if (shape === undefined) throw fail("does not hold a matrix");
  return { rows: shape[0], columns: shape[1], offset: start + length };
}
