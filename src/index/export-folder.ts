import { open, readFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { writeFolderAtomically } from "#core/files";
import { NpyFormatError } from "#core/npy";

import type { UncheckedEntry } from "./entry-rules.js";
import { ExportFormatError } from "./errors.js";
import {
  enrollmentFrom,
  entriesAtOnce,
  type ExportSource,
} from "./export-source.js";
import { galleryJson, parseGallery } from "./exported-gallery.js";
import type { Gallery } from "./gallery.js";
import type { Entry, GallerySpec } from "./gallery-types.js";
import {
  npyHeader,
  npyHeaderBytes,
  parseNpyHeader,
  type NpyShape,
} from "./npy.js";

/** Writes the entries of a gallery, whole or not at all. @returns how many */
export async function writeExportFolder(
  gallery: Gallery,
  folder: string,
  pages: AsyncIterable<readonly Entry[]>,
): Promise<number> {
  let count = 0;
  await writeFolderAtomically(folder, async (temporary) => {
    const { dimension } = gallery.describe();
    const files: FileHandle[] = [];
    try {
      for (const name of ["gallery.json", "entries.jsonl", "features.npy"])
        files.push(await open(join(temporary, name), "wx"));
      const [facts, lines, features] = files;
      await facts.writeFile(`${galleryJson(gallery)}\n`);
      await features.write(npyHeader(0, dimension), 0, npyHeaderBytes, 0);
      for await (const entries of pages) {
        await lines.write(entries.map(lineOf).join(""));
        const block = new Float32Array(entries.length * dimension);
        entries.forEach(({ feature }, i) => {
          if (feature !== undefined) block.set(feature, i * dimension);
        });
        const bytes = new Uint8Array(block.buffer);
        const position = npyHeaderBytes + 4 * dimension * count;
        await features.write(bytes, 0, bytes.length, position);
        count += entries.length;
      }
      await features.write(npyHeader(count, dimension), 0, npyHeaderBytes, 0);
      for (const file of files) await file.sync();
    } finally {
      for (const file of files) await file.close();
    }
  });
  return count;
}

/** Fields of an entry, less what is empty. */
function lineOf({ feature: _, crop: _crop, ...entry }: Entry): string {
  const fields = Object.entries(entry).filter(
    ([, value]) =>
      value !== "" &&
      !(typeof value === "object" && Object.keys(value).length === 0),
  );
  return `${JSON.stringify(Object.fromEntries(fields))}\n`;
}

/** The files of an export that {@link writeExportFolder} has written. */
export class ExportFolder implements ExportSource {
  readonly path: string;
  readonly gallery: GallerySpec;
  readonly dimension: number;
  readonly count: number;
  readonly #features: FileHandle;
  readonly #featuresStart: number;

  private constructor(
    path: string,
    gallery: GallerySpec,
    features: { readonly file: FileHandle; readonly shape: NpyShape },
  ) {
    this.path = path;
    this.gallery = gallery;
    this.dimension = features.shape.columns;
    this.count = features.shape.rows;
    this.#features = features.file;
    this.#featuresStart = features.shape.offset;
  }

  /** @throws {ExportFormatError} a file is missing or of another format @throws {NpyFormatError} */
  static async open(path: string): Promise<ExportFolder> {
    const facts = await readFile(join(path, "gallery.json"), "utf8").catch(
      (error: unknown) => {
        throw unreadable(path, "gallery.json", error);
      },
    );
    const gallery = parseGallery(path, facts, "gallery.json");
    const npy = join(path, "features.npy");
    const file = await open(npy, "r").catch((error: unknown) => {
      throw unreadable(path, "features.npy", error);
    });
    try {
      const head = Buffer.alloc(65_536);
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      const shape = parseNpyHeader(npy, head.subarray(0, bytesRead));
      return new ExportFolder(path, gallery, { file, shape });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *blocks(signal: AbortSignal): ReturnType<ExportSource["blocks"]> {
    const lines = await open(join(this.path, "entries.jsonl"), "r").catch(
      (error: unknown) => {
        throw unreadable(this.path, "entries.jsonl", error);
      },
    );
    try {
      let done = 0;
      let block: UncheckedEntry[] = [];
      const reader = createInterface({
        input: lines.createReadStream({ autoClose: false }),
      });
      for await (const line of reader) {
        block.push(this.#parse(line, done + block.length + 1));
        if (block.length < entriesAtOnce) continue;
        signal.throwIfAborted();
        yield await this.#enrollments(block, done);
        done += block.length;
        block = [];
      }
      if (block.length > 0) yield await this.#enrollments(block, done);
      done += block.length;
      if (done !== this.count)
        throw new ExportFormatError(
          this.path,
          `${done} lines in entries.jsonl, ${this.count} rows in features.npy`,
        );
    } finally {
      await lines.close();
    }
  }

  close(): Promise<void> {
    return this.#features.close();
  }

  #parse(line: string, number: number): UncheckedEntry {
    try {
      const entry: unknown = JSON.parse(line);
      if (typeof entry === "object" && entry !== null)
        return entry as UncheckedEntry;
    } catch {
      // Said below, in the same words as for what is no object.
    }
    throw new ExportFormatError(
      this.path,
      `line ${number} of entries.jsonl is no JSON object`,
    );
  }

  async #enrollments(entries: readonly UncheckedEntry[], first: number) {
    const { dimension } = this;
    const rows = new Float32Array(entries.length * dimension);
    const bytes = new Uint8Array(rows.buffer);
    const position = this.#featuresStart + 4 * dimension * first;
    const { bytesRead } = await this.#features.read(
      ...([bytes, 0, bytes.length, position] as const),
    );
    if (bytesRead < bytes.length)
      throw new NpyFormatError(
        join(this.path, "features.npy"),
        "has fewer rows than entries.jsonl has lines, or is cut short",
      );
    return entries.map((entry, i) =>
      enrollmentFrom(
        entry,
        rows.subarray(i * dimension, (i + 1) * dimension),
        (problem) =>
          new ExportFormatError(
            this.path,
            `line ${first + i + 1} of entries.jsonl: ${problem}`,
          ),
      ),
    );
  }
}

function unreadable(path: string, name: string, cause: unknown) {
  return new ExportFormatError(path, `${name} cannot be read`, { cause });
}
