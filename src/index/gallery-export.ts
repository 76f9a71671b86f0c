import { open, readFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { writeFolderAtomically } from "#core/files";
import { norm, normalizeRows } from "#core/vectors";

import {
  ExportFormatError,
  FeatureDimensionError,
  NpyFormatError,
} from "./errors.js";
import type { Gallery } from "./gallery.js";
import type { Enrollment, Entry, GallerySpec } from "./gallery-types.js";
import { npyHeader, npyHeaderBytes, parseNpyHeader } from "./npy.js";

/** Entries read, written or enrolled at once. */
const atOnce = 512;

/** An entry's fields as a line of `entries.jsonl`; what is empty is left out. */
export type ExportedEntry = Partial<
  Omit<Entry, "feature" | "crop" | "attributes">
> & {
  readonly entryId: string;
  readonly attributes?: Readonly<Record<string, string>>;
};

/** How an export or import is followed. */
export interface ExportOptions {
  readonly signal: AbortSignal;
  readonly report: (doneCount: number, totalCount: number) => void;
}

/**
 * Writes a gallery's entries into a folder, whole or not at all: `gallery.json`, `entries.jsonl`, and `features.npy`
 * whose rows are the lines', in order.
 *
 * @returns how many entries
 * @throws {DiskFullError} @throws {ConfigError} something stands there @throws the signal's reason
 */
export async function exportGallery(
  gallery: Gallery,
  folder: string,
  { signal, report }: ExportOptions,
): Promise<number> {
  let count = 0;
  await writeFolderAtomically(folder, async (temporary) => {
    const { name, model, dimension, index, cropRetention, entryCount } =
      gallery.describe();
    const files = await openAll(temporary, [
      ...["gallery.json", "entries.jsonl", "features.npy"],
    ]);
    try {
      const [facts, lines, features] = files;
      await facts.writeFile(
        `${JSON.stringify({ formatVersion: 1, name, model, dimension, index, cropRetention })}\n`,
      );
      await features.write(npyHeader(0, dimension), 0, npyHeaderBytes, 0);
      let afterSequence = 0;
      for (;;) {
        signal.throwIfAborted();
        const { entries, nextSequence } = await gallery.listEntries({
          ...{ afterSequence, pageSize: atOnce },
          view: "feature",
        });
        // The feature view has the attributes too.
        await lines.write(entries.map(lineOf).join(""));
        const block = new Float32Array(entries.length * dimension);
        entries.forEach(({ feature }, i) => {
          if (feature !== undefined) block.set(feature, i * dimension);
        });
        const bytes = new Uint8Array(block.buffer);
        await features.write(
          bytes,
          0,
          bytes.length,
          npyHeaderBytes + 4 * dimension * count,
        );
        count += entries.length;
        report(count, Math.max(count, entryCount));
        if (nextSequence === undefined) break;
        afterSequence = nextSequence;
      }
      await features.write(npyHeader(count, dimension), 0, npyHeaderBytes, 0);
      for (const file of files) await file.sync();
    } finally {
      for (const file of files) await file.close();
    }
  });
  return count;
}

async function openAll(
  folder: string,
  names: readonly string[],
): Promise<readonly FileHandle[]> {
  const files: FileHandle[] = [];
  for (const name of names) files.push(await open(join(folder, name), "wx"));
  return files;
}

function lineOf({ feature: _, crop: _crop, ...entry }: Entry): string {
  const fields = Object.entries(entry).filter(
    ([, value]) =>
      value !== "" &&
      !(typeof value === "object" && Object.keys(value).length === 0),
  );
  return `${JSON.stringify(Object.fromEntries(fields))}\n`;
}

/**
 * What the gallery was that an export was made of.
 *
 * @throws {ExportFormatError} gallery.json is not there or not of that format
 */
export async function exportedGallery(
  folder: string,
): Promise<Pick<GallerySpec, "name" | "model" | "dimension" | "index">> {
  try {
    const facts = JSON.parse(
      await readFile(join(folder, "gallery.json"), "utf8"),
    ) as GallerySpec & { readonly formatVersion?: number };
    const { name, model, dimension, index, formatVersion } = facts;
    const isWhole =
      formatVersion === 1 &&
      typeof name === "string" &&
      typeof model.name === "string" &&
      Number.isInteger(dimension);
    if (isWhole)
      return {
        name,
        model,
        dimension,
        ...(index === undefined ? {} : { index }),
      };
  } catch (error) {
    throw new ExportFormatError(folder, "gallery.json cannot be read", {
      cause: error,
    });
  }
  throw new ExportFormatError(folder, "gallery.json is not of format 1");
}

/**
 * Enrols the entries of an export; those under the same ids are replaced. Times of enrolment and sequences are new.
 *
 * @returns how many entries
 * @throws {ExportFormatError} @throws {NpyFormatError} lines and features are not what an export is
 * @throws {FeatureDimensionError} @throws {StoreFullError} what was enrolled before it stays
 */
export async function importEntries(
  gallery: Gallery,
  folder: string,
  { signal, report }: ExportOptions,
): Promise<number> {
  const path = join(folder, "features.npy");
  const features = await open(path, "r").catch((error: unknown) => {
    throw new ExportFormatError(folder, "features.npy cannot be read", {
      cause: error,
    });
  });
  const lines = await open(join(folder, "entries.jsonl"), "r").catch(
    async (error: unknown) => {
      await features.close();
      throw new ExportFormatError(folder, "entries.jsonl cannot be read", {
        cause: error,
      });
    },
  );
  try {
    const head = Buffer.alloc(65_536);
    const { bytesRead } = await features.read(head, 0, head.length, 0);
    const shape = parseNpyHeader(path, head.subarray(0, bytesRead));
    const { name, dimension } = gallery.describe();
    if (shape.columns !== dimension)
      throw new FeatureDimensionError(name, dimension, shape.columns);
    let done = 0;
    let block: ExportedEntry[] = [];
    const flush = async () => {
      signal.throwIfAborted();
      const rows = await readRows(features, path, {
        ...{ dimension, rows: block.length },
        position: shape.offset + 4 * dimension * done,
      });
      const { results } = await gallery.enroll(
        block.map((entry, i) =>
          enrollmentOf(
            entry,
            rows.subarray(i * dimension, (i + 1) * dimension),
          ),
        ),
      );
      for (const { error } of results) if (error !== undefined) throw error;
      done += block.length;
      block = [];
      report(done, shape.rows);
    };
    const reader = createInterface({
      input: lines.createReadStream({ autoClose: false }),
    });
    for await (const line of reader) {
      block.push(parseLine(folder, line, done + block.length + 1));
      if (block.length === atOnce) await flush();
    }
    if (block.length > 0) await flush();
    if (done !== shape.rows)
      throw new ExportFormatError(
        folder,
        `${done} lines in entries.jsonl, ${shape.rows} rows in features.npy`,
      );
    return done;
  } finally {
    await features.close();
    await lines.close();
  }
}

function parseLine(
  folder: string,
  line: string,
  number: number,
): ExportedEntry {
  try {
    const entry = JSON.parse(line) as ExportedEntry;
    if (typeof entry.entryId === "string" && entry.entryId !== "") return entry;
  } catch {
    // Said below, in the same words as for a line without an id.
  }
  throw new ExportFormatError(
    folder,
    `line ${number} of entries.jsonl is no entry with an entryId`,
  );
}

function enrollmentOf(entry: ExportedEntry, feature: Float32Array): Enrollment {
  const { enrolledAtUs: _at, sequence: _sequence, ...fields } = entry;
  return { ...fields, feature };
}

async function readRows(
  file: FileHandle,
  path: string,
  where: {
    readonly dimension: number;
    readonly rows: number;
    readonly position: number;
  },
): Promise<Float32Array> {
  const { dimension, position } = where;
  const rows = new Float32Array(where.rows * dimension);
  const bytes = new Uint8Array(rows.buffer);
  const { bytesRead } = await file.read(bytes, 0, bytes.length, position);
  if (bytesRead < bytes.length)
    throw new NpyFormatError(
      path,
      "it has fewer rows than lines, or is cut short",
    );
  for (let i = 0; i < where.rows; i++) {
    const row = rows.subarray(i * dimension, (i + 1) * dimension);
    const length = norm(row);
    if (!(Math.abs(length - 1) <= 1e-3))
      throw new NpyFormatError(path, `a row has norm ${length}, expected 1`);
  }
  return normalizeRows(rows, dimension);
}
