/** One crop of a data set on disk. */
export interface CropRef {
  /** Path of the image file, absolute or relative to the working directory. */
  readonly path: string;
  /** As the data set has it: in Market-1501 0 is a distractor; junk (−1) is never listed. */
  readonly identity: number;
  /** As the data set has it (Market-1501: 1 to 6). */
  readonly cameraId: number;
}

/** A part of a data set: crops to learn from, to search with, to search in. */
export type Split = "train" | "query" | "gallery";

/** What a reader found in a folder. */
export interface DataSet {
  readonly train: readonly CropRef[];
  readonly query: readonly CropRef[];
  readonly gallery: readonly CropRef[];
  /** Files left out because they do not fit the layout; only with `skipBad`. */
  readonly skipped: readonly SkippedFile[];
}

/** A file that was left out, and why. */
export interface SkippedFile {
  readonly path: string;
  readonly reason: string;
}

/** How a data set's folder is read. */
export interface ReadOptions {
  /** Leave out, count and list what does not fit, instead of stopping at the first such file. */
  readonly skipBad: boolean;
  /** The parts to read; the others stay empty and their folders need not exist. */
  readonly splits: readonly Split[];
}
