import { ReidError } from "./errors.js";

/** A `.npy` file that is no matrix of features. */
export class NpyFormatError extends ReidError<{
  path: string;
  problem: string;
}> {
  readonly code = "NPY_FORMAT";
  readonly kind = "invalid-argument";

  /** @param problem  what is said of the file, such as "is cut short" */
  constructor(path: string, problem: string) {
    super(
      `${path} ${problem}: save a C-ordered float32 array [entries, dimension] of unit rows`,
      { path, problem },
    );
  }
}

/** How a `.npy` file begins. */
export const npyMagic = Buffer.from("\x93NUMPY", "latin1");

/** Where a `.npy` file's dictionary lies. */
export interface NpyFrame {
  readonly start: number;
  readonly length: number;
}

/** What the dictionary says. */
export interface NpyFacts {
  /** As numpy writes it, `<f4`; undefined: it does not say. */
  readonly type: string | undefined;
  /** Row by row (C order). */
  readonly isRowMajor: boolean;
  /** Undefined: not of two dimensions. */
  readonly shape: readonly [rows: number, columns: number] | undefined;
}

/**
 * Reads the fixed part of a `.npy` file's header, versions 1 to 3.
 *
 * Source: numpy/numpy numpy/lib/format.py (layout of magic, version, length and dictionary).
 *
 * @param head  the file's first 12 bytes or more
 * @returns     undefined: it is no such file
 */
export function npyFrame(head: Buffer): NpyFrame | undefined {
  if (head.length < 12 || !head.subarray(0, npyMagic.length).equals(npyMagic))
    return undefined;
  return head[6] >= 2
    ? { start: 12, length: head.readUInt32LE(8) }
    : { start: 10, length: head.readUInt16LE(8) };
}

/** Reads the dictionary. */
export function npyFacts(dictionary: Buffer): NpyFacts {
  const text = dictionary.toString("latin1");
  const shape = /'shape': *\((\d+), *(\d+),? *\)/.exec(text);
  return {
    type: /'descr': *'([^']*)'/.exec(text)?.[1],
    isRowMajor: /'fortran_order': *False/.test(text),
    shape: shape === null ? undefined : [Number(shape[1]), Number(shape[2])],
  };
}
