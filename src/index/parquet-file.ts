import { createHash, type Hash } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";

import {
  parquetMetadataAsync,
  parquetScan,
  parquetSchema,
  type AsyncBuffer,
  type ColumnMetaData,
  type FileMetaData,
  type ParquetParsers,
  type SchemaElement,
  type SchemaTree,
} from "hyparquet";
import { ByteWriter, ParquetWriter, type ColumnSource } from "hyparquet-writer";

import { ReidError } from "#core/errors";

import { ParquetFormatError } from "./errors.js";

export type { ColumnSource, SchemaElement, SchemaTree };

/** Names us in the files that we write. */
const createdBy = "spcl-reid";

/** Hexadecimal, of all bytes before the footer. Parquet's own checksums are optional, and seldom looked at. */
const digestKey = "reid.sha256";

const readAtOnce = 1 << 20;

/** Numbers of one column in one row group that are read: they are in memory, as is what they were decoded from. */
const groupNumbers = 1 << 25;

/** Gathers a row group, which goes to the file as a whole. */
class GroupWriter extends ByteWriter {
  readonly #file: FileHandle;
  readonly #digest: Hash;

  constructor(file: FileHandle, digest: Hash) {
    super(readAtOnce);
    this.#file = file;
    this.#digest = digest;
  }

  async flush(): Promise<void> {
    const bytes = this.getBytes();
    this.#digest.update(bytes);
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, at);
      at += bytesWritten;
    }
    this.index = 0;
  }
}

/** A Parquet file as it is written, a row group at a time. */
export class ParquetSink {
  readonly #digest = createHash("sha256");
  readonly #facts: { key: string; value: string }[];
  readonly #group: GroupWriter;
  readonly #writer: ParquetWriter;

  /**
   * @param file    empty; stays the caller's
   * @param schema  in depth-first order, the root first
   * @param facts   key-value metadata
   */
  constructor(
    file: FileHandle,
    schema: readonly SchemaElement[],
    facts: Readonly<Record<string, string>>,
  ) {
    this.#facts = Object.entries(facts).map(([key, value]) => ({ key, value }));
    this.#group = new GroupWriter(file, this.#digest);
    this.#writer = new ParquetWriter({
      writer: this.#group,
      schema: [...schema],
      kvMetadata: this.#facts,
      createdBy,
    });
  }

  /** Writes rows as one row group. @param columns  all of equal length, at least 1 */
  async write(columns: readonly ColumnSource[]): Promise<void> {
    const rows = columns[0].data.length;
    // Indexes of pages would lie before the footer: then what is hashed would not be all that is written so far.
    await this.#writer.write({
      columnData: columns.map((one) => ({ ...one, offsetIndex: false })),
      rowGroupSize: rows,
    });
  }

  async finish(): Promise<void> {
    // With a file of no rows not even the magic number has been written yet.
    await this.#group.flush();
    const value = this.#digest.copy().digest("hex");
    this.#facts.push({ key: digestKey, value });
    await this.#writer.finish();
    await this.#group.flush();
  }
}

/** Bytes of a file by place, for the parser. @throws {ParquetFormatError} they are not there */
function bufferOf(
  path: string,
  file: FileHandle,
  byteLength: number,
): AsyncBuffer {
  return {
    byteLength,
    slice: async (start, end = byteLength) => {
      const length = end - start;
      if (start < 0 || length < 0 || end > byteLength)
        throw new ParquetFormatError(path, "it is cut short");
      const bytes = new Uint8Array(length);
      const { bytesRead } = await file.read(bytes, 0, length, start);
      if (bytesRead < length)
        throw new ParquetFormatError(path, "it is cut short");
      return bytes.buffer;
    },
  };
}

// Fatal, so that an id is not another one afterwards; the parser's own would also drop a byte order mark.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Times as microseconds, whatever unit the file has them in. */
const parsers: Partial<ParquetParsers> = {
  timestampFromMilliseconds: (value) => value * 1000n,
  timestampFromMicroseconds: (value) => value,
  timestampFromNanoseconds: (value) => value / 1000n,
  stringFromBytes: (bytes) => bytes && decoder.decode(bytes),
};

/** Rows of a file that are in memory at once, by column. */
export interface ParquetGroup {
  readonly rows: number;
  /** Of each column asked for that is there, its values [rows]; null or undefined where there is none. */
  readonly columns: ReadonlyMap<string, ArrayLike<unknown>>;
}

/** A Parquet file as it is read, a row group at a time. */
export class ParquetFile {
  readonly path: string;
  readonly rows: number;
  /** Key-value metadata. */
  readonly facts: ReadonlyMap<string, string>;
  /** At the top level, by name. */
  readonly columns: ReadonlyMap<string, SchemaTree>;
  readonly #file: FileHandle;
  readonly #buffer: AsyncBuffer;
  readonly #metadata: FileMetaData;

  private constructor(
    path: string,
    file: FileHandle,
    { buffer, metadata }: { buffer: AsyncBuffer; metadata: FileMetaData },
  ) {
    this.path = path;
    this.rows = Number(metadata.num_rows);
    this.facts = new Map(
      (metadata.key_value_metadata ?? []).map(({ key, value }) => [
        key,
        value ?? "",
      ]),
    );
    this.columns = new Map(
      parquetSchema(metadata).children.map((one) => [one.element.name, one]),
    );
    this.#file = file;
    this.#buffer = buffer;
    this.#metadata = metadata;
  }

  /**
   * Opens a file and reads its footer.
   *
   * @throws {ParquetFormatError} it is not there, or no Parquet file
   */
  static async open(path: string): Promise<ParquetFile> {
    const file = await open(path, "r").catch((error: unknown) => {
      throw new ParquetFormatError(path, "it cannot be read", { cause: error });
    });
    try {
      const { size } = await file.stat();
      const head = Buffer.alloc(4);
      const tail = Buffer.alloc(4);
      await file.read(head, 0, 4, 0);
      await file.read(tail, 0, 4, Math.max(0, size - 4));
      if (head.toString("latin1") !== "PAR1")
        throw new ParquetFormatError(path, "it does not begin with PAR1");
      if (size < 12 || tail.toString("latin1") !== "PAR1")
        throw new ParquetFormatError(path, "it is cut short");
      const buffer = bufferOf(path, file, size);
      const metadata = await parsed(path, () =>
        parquetMetadataAsync(buffer, { geoparquet: false }),
      );
      return await parsed(
        path,
        async () => new ParquetFile(path, file, { buffer, metadata }),
      );
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Compares the bytes of a file of ours with the digest in it; a file that another program has written has none.
   *
   * @throws {ParquetFormatError} they differ @throws the signal's reason
   */
  async verify(signal: AbortSignal): Promise<void> {
    const expected = this.facts.get(digestKey);
    // Who rewrites a file may keep our key-value metadata: the digest is then of bytes that are no more.
    if (this.#metadata.created_by !== createdBy || expected === undefined)
      return;
    const end = this.#buffer.byteLength - this.#metadata.metadata_length - 8;
    const digest = createHash("sha256");
    for (let start = 0; start < end; start += readAtOnce) {
      signal.throwIfAborted();
      const bytes = await this.#buffer.slice(
        start,
        Math.min(end, start + readAtOnce),
      );
      digest.update(new Uint8Array(bytes));
    }
    const found = digest.digest("hex");
    if (found !== expected)
      throw new ParquetFormatError(
        this.path,
        `its bytes have sha256 ${found}, its footer says ${expected}`,
      );
  }

  /**
   * The rows, one row group after the other.
   *
   * @param wanted  columns to read; those that are not there are left out
   * @throws {ParquetFormatError} it is damaged, compressed in another way, or a row group is too large for memory
   */
  async *groups(wanted: readonly string[]): AsyncGenerator<ParquetGroup> {
    const columns = wanted.filter((name) => this.columns.has(name));
    for (const group of this.#metadata.row_groups)
      for (const { meta_data: chunk } of group.columns)
        if (chunk !== undefined && columns.includes(chunk.path_in_schema[0]))
          this.#requireReadable(chunk);
    const scan = await parsed(this.path, () =>
      parquetScan({
        file: this.#buffer,
        metadata: this.#metadata,
        columns,
        parsers,
        utf8: false,
        geoparquet: false,
      }),
    );
    let seen = 0;
    for (const range of scan.ranges) {
      const rows = range.rowEnd - range.rowStart;
      const values = new Map<string, ArrayLike<unknown>>();
      for (const column of columns) {
        const read = await parsed(this.path, () =>
          scan.readColumn({ ...range, column }),
        );
        if (read.length !== rows)
          throw new ParquetFormatError(
            this.path,
            `column "${column}" has ${read.length} rows where the row group has ${rows}`,
          );
        values.set(column, read);
      }
      seen += rows;
      yield { rows, columns: values };
    }
    if (seen !== this.rows)
      throw new ParquetFormatError(
        this.path,
        `its row groups have ${seen} rows, its footer says ${this.rows}`,
      );
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #requireReadable({ path_in_schema, num_values, codec }: ColumnMetaData) {
    const column = `a row group of column "${path_in_schema[0]}"`;
    if (codec !== "SNAPPY" && codec !== "UNCOMPRESSED")
      throw new ParquetFormatError(
        this.path,
        `${column} is compressed with ${codec}: write it with SNAPPY, or without compression`,
      );
    if (num_values > groupNumbers)
      throw new ParquetFormatError(
        this.path,
        `${column} has ${num_values} numbers, more than ${groupNumbers}: write smaller row groups`,
      );
  }
}

/** Whatever the parser throws at bytes that are none of its format, as a failure of ours. */
async function parsed<Result>(
  path: string,
  parse: () => Promise<Result>,
): Promise<Result> {
  try {
    return await parse();
  } catch (error) {
    if (error instanceof ReidError) throw error;
    const cause = error instanceof Error ? error.message : String(error);
    throw new ParquetFormatError(path, cause, { cause: error });
  }
}
