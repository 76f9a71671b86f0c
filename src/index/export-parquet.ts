import { writeFileAtomically } from "#core/files";

import { ParquetFormatError } from "./errors.js";
import {
  enrollmentFrom,
  entriesAtOnce,
  type ExportSource,
} from "./export-source.js";
import { galleryJson, parseGallery } from "./exported-gallery.js";
import type { Gallery } from "./gallery.js";
import type { Entry, GallerySpec } from "./gallery-types.js";
import {
  ParquetFile,
  ParquetSink,
  type ColumnSource,
  type ParquetGroup,
  type SchemaElement,
  type SchemaTree,
} from "./parquet-file.js";

/** Key of the metadata that says what the gallery is. */
const galleryKey = "reid.gallery";

/** Numbers and bytes of a row group, beyond which the next begins: it is in memory as a whole. */
const groupNumbers = 1 << 20;
const groupCropBytes = 1 << 25;

const text: Omit<SchemaElement, "name"> = {
  type: "BYTE_ARRAY",
  converted_type: "UTF8",
  logical_type: { type: "STRING" },
};
const time: Omit<SchemaElement, "name"> = {
  type: "INT64",
  converted_type: "TIMESTAMP_MICROS",
  logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MICROS" },
};

interface Column {
  /** With its parts, in depth-first order. */
  readonly elements: readonly SchemaElement[];
  /** What the file has of an entry. */
  readonly write: (entry: Entry) => unknown;
  readonly options?: Omit<ColumnSource, "name" | "data">;
  /** Field of an entry that it is read into, and how; left out: it is not read. */
  readonly read?: readonly [field: string, value: (value: unknown) => unknown];
}

/** A column of one value, which may be missing. */
function single(
  name: string,
  element: Omit<SchemaElement, "name">,
  rest: Omit<Column, "elements">,
): Column {
  return {
    elements: [{ name, repetition_type: "OPTIONAL", ...element }],
    ...rest,
  };
}

const asIs = (value: unknown): unknown => value;
/** Times are BigInts in Parquet; what is none stays, and is refused as a time. */
const asNumber = (value: unknown): unknown =>
  typeof value === "bigint" ? Number(value) : value;
const orNull = (value: string): string | null => (value === "" ? null : value);

/** The columns of an entry; the feature's is read apart. */
const columns: readonly Column[] = [
  single(
    "entry_id",
    { ...text, repetition_type: "REQUIRED" },
    { write: ({ entryId }) => entryId, read: ["entryId", asIs] },
  ),
  single("identity", text, {
    write: ({ identity }) => orNull(identity),
    read: ["identity", asIs],
  }),
  single("camera_id", text, {
    write: ({ cameraId }) => orNull(cameraId),
    read: ["cameraId", asIs],
  }),
  single("track_id", text, {
    write: ({ trackId }) => orNull(trackId),
    read: ["trackId", asIs],
  }),
  single("captured_at", time, {
    write: ({ capturedAtUs }) => capturedAtUs,
    read: ["capturedAtUs", asNumber],
  }),
  single("expires_at", time, {
    write: ({ expiresAtUs }) => expiresAtUs,
    read: ["expiresAtUs", asNumber],
  }),
  single("enrolled_at", time, { write: ({ enrolledAtUs }) => enrolledAtUs }),
  single(
    "sequence",
    { type: "INT64" },
    { write: ({ sequence }) => BigInt(sequence) },
  ),
  {
    elements: [
      {
        name: "attributes",
        repetition_type: "REQUIRED",
        num_children: 1,
        converted_type: "MAP",
        logical_type: { type: "MAP" },
      },
      { name: "key_value", repetition_type: "REPEATED", num_children: 2 },
      { name: "key", repetition_type: "REQUIRED", ...text },
      { name: "value", repetition_type: "REQUIRED", ...text },
    ],
    write: ({ attributes }) => attributes,
    read: ["attributes", asIs],
  },
  {
    elements: [
      {
        name: "feature",
        repetition_type: "REQUIRED",
        num_children: 1,
        converted_type: "LIST",
        logical_type: { type: "LIST" },
      },
      { name: "list", repetition_type: "REPEATED", num_children: 1 },
      { name: "element", repetition_type: "REQUIRED", type: "FLOAT" },
    ],
    write: ({ feature }) => Array.from(feature ?? []),
    // Neither gains anything on random mantissas.
    options: { encoding: "PLAIN", codec: "UNCOMPRESSED", statistics: false },
  },
  single(
    "crop",
    { type: "BYTE_ARRAY" },
    {
      write: ({ crop }) => crop,
      options: { encoding: "PLAIN", codec: "UNCOMPRESSED", statistics: false },
      read: ["crop", asIs],
    },
  ),
];

const schema: readonly SchemaElement[] = [
  { name: "entries", num_children: columns.length },
  ...columns.flatMap(({ elements }) => elements),
];

/** Writes the entries of a gallery into one file, whole or not at all. @returns how many */
export async function writeParquet(
  gallery: Gallery,
  path: string,
  pages: AsyncIterable<readonly Entry[]>,
): Promise<number> {
  let count = 0;
  await writeFileAtomically(path, async (file) => {
    const { dimension } = gallery.describe();
    const sink = new ParquetSink(file, schema, {
      [galleryKey]: galleryJson(gallery),
    });
    let group: Entry[] = [];
    let cropBytes = 0;
    const flush = async () => {
      await sink.write(
        columns.map(({ elements, write, options }) => ({
          ...options,
          name: elements[0].name,
          data: group.map(write),
        })),
      );
      count += group.length;
      group = [];
      cropBytes = 0;
    };
    for await (const entries of pages)
      for (const entry of entries) {
        group.push(entry);
        cropBytes += entry.crop?.length ?? 0;
        const numbers = (group.length + 1) * dimension;
        if (numbers > groupNumbers || cropBytes >= groupCropBytes)
          await flush();
      }
    if (group.length > 0) await flush();
    await sink.finish();
  });
  return count;
}

/** A Parquet file of entries: one of ours, or any that has columns `entry_id` and `feature`. */
export class ParquetExport implements ExportSource {
  readonly path: string;
  readonly gallery: GallerySpec | undefined;
  readonly dimension: number;
  readonly count: number;
  readonly #file: ParquetFile;
  #isVerified = false;

  private constructor(
    file: ParquetFile,
    gallery: GallerySpec | undefined,
    dimension: number,
  ) {
    this.path = file.path;
    this.count = file.rows;
    this.gallery = gallery;
    this.dimension = dimension;
    this.#file = file;
  }

  /** @throws {ParquetFormatError} no Parquet file, or without the columns @throws {ExportFormatError} */
  static async open(path: string): Promise<ParquetExport> {
    const file = await ParquetFile.open(path);
    try {
      requireColumns(file);
      const facts = file.facts.get(galleryKey);
      const gallery =
        facts === undefined ? undefined : parseGallery(path, facts, galleryKey);
      const dimension = gallery?.dimension ?? (await firstLength(file));
      return new ParquetExport(file, gallery, dimension);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *blocks(signal: AbortSignal): ReturnType<ExportSource["blocks"]> {
    if (!this.#isVerified) await this.#file.verify(signal);
    this.#isVerified = true;
    let first = 0;
    const names = columns.map(({ elements }) => elements[0].name);
    for await (const group of this.#file.groups(names)) {
      for (let at = 0; at < group.rows; at += entriesAtOnce) {
        signal.throwIfAborted();
        const rows = Math.min(entriesAtOnce, group.rows - at);
        yield Array.from({ length: rows }, (_, i) =>
          this.#enrollment(group, at + i, first + at + i + 1),
        );
      }
      first += group.rows;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #enrollment(group: ParquetGroup, row: number, number: number) {
    const fail = (problem: string) =>
      new ParquetFormatError(this.path, `row ${number}: ${problem}`);
    const numbers = group.columns.get("feature")?.[row];
    const length = Array.isArray(numbers) ? numbers.length : 0;
    if (length !== this.dimension)
      throw fail(
        `its feature has ${length} numbers, expected ${this.dimension}`,
      );
    const fields: Record<string, unknown> = {};
    for (const { elements, read } of columns) {
      if (read === undefined) continue;
      const value = group.columns.get(elements[0].name)?.[row];
      if (value !== null && value !== undefined)
        fields[read[0]] = read[1](value);
    }
    return enrollmentFrom(
      fields,
      Float32Array.from(numbers as readonly number[]),
      fail,
    );
  }
}

/** Whether a column is what its first element's name says, in any way that programs write it. */
const shapes: Readonly<
  Record<string, { readonly fits: (tree: SchemaTree) => boolean; is: string }>
> = {
  entry_id: { fits: isText, is: "text" },
  identity: { fits: isText, is: "text" },
  camera_id: { fits: isText, is: "text" },
  track_id: { fits: isText, is: "text" },
  captured_at: { fits: isTime, is: "timestamps" },
  expires_at: { fits: isTime, is: "timestamps" },
  attributes: {
    fits: ({ element, children }) =>
      element.converted_type === "MAP" &&
      (children[0]?.children ?? []).every(isText),
    is: "a map of text to text",
  },
  feature: {
    fits: ({ children }) => {
      // list → element, or in older files the repeated number alone.
      const item = children[0]?.children[0] ?? children[0];
      return item?.element.type === "FLOAT" || item?.element.type === "DOUBLE";
    },
    is: "lists of float32 or float64",
  },
  crop: { fits: ({ element }) => element.type === "BYTE_ARRAY", is: "bytes" },
};

function isText({ element }: SchemaTree): boolean {
  return (
    element.type === "BYTE_ARRAY" &&
    (element.converted_type === "UTF8" ||
      element.logical_type?.type === "STRING")
  );
}

function isTime({ element }: SchemaTree): boolean {
  return (
    element.type === "INT64" &&
    (element.logical_type?.type === "TIMESTAMP" ||
      (element.converted_type?.startsWith("TIMESTAMP") ?? false))
  );
}

function requireColumns(file: ParquetFile): void {
  for (const [name, { fits, is }] of Object.entries(shapes)) {
    const tree = file.columns.get(name);
    if (tree === undefined) {
      if (name === "entry_id" || name === "feature")
        throw new ParquetFormatError(
          file.path,
          `it has no column "${name}" (${is})`,
        );
      continue;
    }
    if (!fits(tree))
      throw new ParquetFormatError(
        file.path,
        `column "${name}" does not hold ${is}`,
      );
  }
}

/** Numbers of the first feature; of a file without rows 0. */
async function firstLength(file: ParquetFile): Promise<number> {
  for await (const { columns: read } of file.groups(["feature"])) {
    const first = read.get("feature")?.[0];
    return Array.isArray(first) ? first.length : 0;
  }
  return 0;
}
