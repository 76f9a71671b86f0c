import { open as openFile, type FileHandle } from "node:fs/promises";

import type { Database, RootDatabase, RootDatabaseOptionsWithPath } from "lmdb";

import { assert } from "./errors.js";

const maxTables = 64;

/**
 * How an environment is opened, by the thread that reads it as by the one that writes it.
 *
 * @param path  of the folder that holds data.mdb
 */
export function environmentOptions(path: string): RootDatabaseOptionsWithPath {
  return {
    path,
    noSubdir: false,
    encoding: "binary",
    maxDbs: maxTables,
    // A commit is then fsynced by LMDB itself before it counts, in the order LMDB was made for.
    overlappingSync: false,
    // With it lmdb starts commits of its own, whose failure nobody can catch: it would end the process.
    eventTurnBatching: false,
  };
}

/** A table, made if it is not there; its values as bytes, with what store-values.ts puts behind them. */
export function openTable(root: RootDatabase, name: string): Database<Buffer> {
  return root.openDB<Buffer>({ name, encoding: "binary" });
}

// MDB_MAGIC of lmdb's mdb.c, at the start of the first page's body.
const magic = Buffer.from([0xde, 0xc0, 0xef, 0xbe]);

// Where MDB_meta of lmdb's mdb.c has the size of a page and the number of its transaction, from the magic on.
const pageSizeAt = 24;
const transactionAt = 128;

/** The first bytes of a file, and where in them the root of the first page begins; -1: it is no file of LMDB. */
async function headOf(
  handle: FileHandle,
): Promise<{ readonly head: Buffer; readonly meta: number }> {
  const head = Buffer.alloc(256);
  await handle.read(head, 0, head.length, 0);
  return { head, meta: head.indexOf(magic) };
}

/**
 * What a store's file is, before LMDB is given it.
 *
 * LMDB maps what it is given and reads on: a file that is none of its own ends the process. One that was cut off while
 * its first two pages were written has never held a transaction.
 *
 * @returns `unborn`: it is to be made anew
 * @throws {AssertionError} it is no file of LMDB
 */
export async function kindOfStoreFile(
  path: string,
): Promise<"store" | "unborn"> {
  let handle;
  try {
    handle = await openFile(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "unborn";
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size === 0) return "unborn";
    const { head, meta } = await headOf(handle);
    const isCutShort = size >= head.length && size < 8192;
    if (
      isCutShort &&
      meta >= 0 &&
      head.readBigUInt64LE(meta + transactionAt) === 0n
    )
      return "unborn";
    assert(size >= 8192 && meta >= 0, `${path} is not a file of LMDB`);
    return "store";
  } finally {
    await handle.close();
  }
}

/**
 * Takes transactions back that may have reached the file although their commit failed.
 *
 * LMDB keeps the roots of the last two transactions, in the first two pages by turns, and no transaction writes over
 * what the one before it needs: a root that says to be older than the other one does not count.
 *
 * @param path         a file that nobody has open
 * @param transaction  the number of the first one to take back; the one before it is there
 */
export async function takeBack(
  path: string,
  transaction: number,
): Promise<void> {
  const handle = await openFile(path, "r+");
  try {
    const { head, meta } = await headOf(handle);
    assert(meta >= 0, `${path} is a file of LMDB`);
    const pageSize = head.readUInt32LE(meta + pageSizeAt);
    const number = Buffer.alloc(8);
    for (const page of [0, pageSize]) {
      const at = page + meta + transactionAt;
      await handle.read(number, 0, number.length, at);
      const last = number.readBigUInt64LE();
      if (last < BigInt(transaction)) continue;
      // What this page said before: the two take turns.
      number.writeBigUInt64LE(last - 2n);
      await handle.write(number, 0, number.length, at);
    }
  } finally {
    await handle.close();
  }
}
