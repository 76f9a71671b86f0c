import { stat } from "node:fs/promises";

import { ConfigError } from "#core/errors";

import {
  ExportFormatError,
  FeatureDimensionError,
  ModelMismatchError,
} from "./errors.js";
import { ExportFolder, writeExportFolder } from "./export-folder.js";
import { ParquetExport, writeParquet } from "./export-parquet.js";
import { entriesAtOnce, type ExportSource } from "./export-source.js";
import type { Gallery } from "./gallery.js";
import type { Entry, EntryPage, GallerySpec } from "./gallery-types.js";

/** What an export can be: a folder with a `.npy` file, or one Parquet file. */
export type ExportFormat = "npy" | "parquet";

/** Layout: docs/formats.md. */
const writers: Readonly<Record<ExportFormat, typeof writeParquet>> = {
  npy: writeExportFolder,
  parquet: writeParquet,
};

/** How an export or import is followed. */
export interface ExportOptions {
  readonly signal: AbortSignal;
  readonly report: (doneCount: number, totalCount: number) => void;
}

/**
 * Writes a gallery's entries, whole or not at all: into a folder, or a Parquet file with the kept crops in it.
 *
 * @returns how many entries
 * @throws {DiskFullError} @throws {ConfigError} something stands there @throws the signal's reason
 */
export async function exportGallery(
  gallery: Gallery,
  target: { readonly path: string; readonly format: ExportFormat },
  options: ExportOptions,
): Promise<number> {
  const { path, format } = target;
  if ((await stat(path).catch(() => undefined)) !== undefined)
    throw new ConfigError(
      "output",
      `${path}, which exists`,
      "a path where nothing is",
    );
  const withCrops = format === "parquet";
  return writers[format](gallery, path, pagesOf(gallery, withCrops, options));
}

async function* pagesOf(
  gallery: Gallery,
  withCrops: boolean,
  { signal, report }: ExportOptions,
): AsyncGenerator<readonly Entry[]> {
  let count = 0;
  let afterSequence = 0;
  for (;;) {
    signal.throwIfAborted();
    const page = { afterSequence, pageSize: entriesAtOnce };
    // The feature view has the attributes too.
    const { entries, nextSequence }: EntryPage = await gallery.listEntries({
      ...page,
      view: "feature",
    });
    const crops = withCrops ? await cropsOf(gallery, page) : new Map();
    yield entries.map((entry) => {
      const crop = crops.get(entry.sequence);
      return crop === undefined ? entry : { ...entry, crop };
    });
    count += entries.length;
    report(count, Math.max(count, gallery.describe().entryCount));
    if (nextSequence === undefined) return;
    afterSequence = nextSequence;
  }
}

/** Kept crops of a page, by their entry's sequence. */
async function cropsOf(
  gallery: Gallery,
  page: { readonly afterSequence: number; readonly pageSize: number },
): Promise<ReadonlyMap<number, Uint8Array>> {
  const { entries } = await gallery.listEntries({ ...page, view: "crop" });
  return new Map(
    entries.flatMap(({ sequence, crop }) =>
      crop === undefined ? [] : [[sequence, crop]],
    ),
  );
}

/**
 * Opens what {@link exportGallery} wrote, or a Parquet file that another program made.
 *
 * @throws {ExportFormatError} @throws {NpyFormatError} @throws {ParquetFormatError} it is none
 */
export async function openExport(path: string): Promise<ExportSource> {
  const found = await stat(path).catch((error: unknown) => {
    throw new ExportFormatError(path, "it is not there", { cause: error });
  });
  return found.isDirectory()
    ? ExportFolder.open(path)
    : ParquetExport.open(path);
}

/** Where an export's entries go. */
export interface ImportTarget {
  /** The gallery that is there; undefined: one is made. */
  readonly gallery: Gallery | undefined;
  /** Makes it, once the export is known to be whole. */
  readonly make: (spec: GallerySpec) => Promise<Gallery>;
}

/**
 * Enrols the entries of an export; those under the same ids are replaced. Times of enrolment and sequences are new.
 *
 * All of it is read and checked before anything is made or enrolled: a file with a fault in it changes nothing.
 *
 * @returns how many entries
 * @throws {ExportFormatError} @throws {NpyFormatError} @throws {ParquetFormatError} it is not what an export is
 * @throws {FeatureDimensionError} @throws {ModelMismatchError} it is of another encoder than the gallery
 * @throws {StoreFullError} @throws {GalleryFullError} what was enrolled before it stays; imported again, it is replaced by itself
 */
export async function importEntries(
  source: ExportSource,
  target: ImportTarget,
  { signal, report }: ExportOptions,
): Promise<number> {
  const { gallery: spec, path } = source;
  if (target.gallery !== undefined) requireFit(target.gallery, source);
  else if (spec === undefined)
    throw new ExportFormatError(
      path,
      "it does not say what its gallery is, and no gallery is there to enrol into",
    );
  const total = 2 * source.count;
  let checked = 0;
  for await (const block of source.blocks(signal))
    report((checked += block.length), total);
  const gallery = target.gallery ?? (await target.make(spec as GallerySpec));
  let done = 0;
  for await (const block of source.blocks(signal)) {
    const { results } = await gallery.enroll(block);
    for (const { error } of results) if (error !== undefined) throw error;
    report(checked + (done += block.length), total);
  }
  return done;
}

function requireFit(gallery: Gallery, source: ExportSource): void {
  const { name, dimension, model } = gallery.describe();
  const other = source.gallery?.model;
  if (
    other !== undefined &&
    (other.name !== model.name || other.version !== model.version)
  )
    throw new ModelMismatchError(
      name,
      `${model.name}/${model.version}`,
      `${other.name}/${other.version}`,
    );
  if (source.count > 0 && source.dimension !== dimension)
    throw new FeatureDimensionError(name, dimension, source.dimension);
}
