import { open as openFile, rm } from "node:fs/promises";

import { open, type Database, type RootDatabase } from "lmdb";

import { assert } from "./errors.js";

/** How a table's values are encoded: raw bytes, or MessagePack of plain data (typed arrays and bytes included). */
export type ValueEncoding = "bytes" | "data";

const maxTables = 64;

// MDB_MAGIC of lmdb's mdb.c, at the start of the first page's body.
const magic = Buffer.from([0xde, 0xc0, 0xef, 0xbe]);

// Where MDB_meta of lmdb's mdb.c has the number of its last transaction, from the magic on.
const transactionAt = 128;

/**
 * LMDB maps what it is given and reads on: a file that is none of its own ends the process.
 *
 * A file that was cut off while its first two pages were written never held a transaction: it is made anew.
 *
 * @throws {AssertionError} it is no file of LMDB
 */
export async function checkStoreFile(path: string): Promise<void> {
  let handle;
  try {
    handle = await openFile(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size === 0) return;
    const head = Buffer.alloc(256);
    await handle.read(head, 0, head.length, 0);
    const meta = head.indexOf(magic);
    const isCutShort = size >= head.length && size < 8192;
    if (
      isCutShort &&
      meta >= 0 &&
      head.readBigUInt64LE(meta + transactionAt) === 0n
    ) {
      await rm(path);
      return;
    }
    assert(size >= 8192 && meta >= 0, `${path} is not a file of LMDB`);
  } finally {
    await handle.close();
  }
}

/** An open LMDB environment with its tables; compaction puts another one in its place. */
export class StoreEnvironment {
  readonly root: RootDatabase;
  readonly databases = new Map<string, Database>();
  #ranges = 0;
  #retired: (() => void) | undefined;

  /** @param path  of the folder that holds data.mdb */
  constructor(path: string) {
    this.root = open({
      path,
      noSubdir: false,
      encoding: "binary",
      maxDbs: maxTables,
      // A commit is then fsynced by LMDB itself before it counts, in the order LMDB was made for.
      overlappingSync: false,
      // With it lmdb starts commits of its own, whose failure nobody can catch: it would end the process.
      eventTurnBatching: false,
    });
  }

  database(name: string, encoding: ValueEncoding): Database {
    const known = this.databases.get(name);
    if (known !== undefined) return known;
    const database = this.root.openDB({
      name,
      encoding: encoding === "bytes" ? "binary" : "msgpack",
    });
    this.databases.set(name, database);
    return database;
  }

  /** Runs a range's iteration; `close` waits for it. */
  *iterate<Item>(items: () => Iterable<Item>): Iterable<Item> {
    this.#ranges++;
    try {
      yield* items();
    } finally {
      this.#ranges--;
      if (this.#ranges === 0) this.#retired?.();
    }
  }

  /** Waits for ranges that are still read: what they give is of the time they began. */
  async close(): Promise<void> {
    if (this.#ranges > 0)
      await new Promise<void>((resolve) => (this.#retired = resolve));
    await this.root.close();
  }
}
