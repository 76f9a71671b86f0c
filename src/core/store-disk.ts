import { existsSync } from "node:fs";
import { open, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";

import {
  ConfigError,
  DiskFailedError,
  DiskFullError,
  ReidError,
} from "./errors.js";
import { makeFolders, removeTree, syncFolder, writeFailure } from "./files.js";
import { FormatNewerError } from "./format.js";
import { lockFolder, type FolderLock } from "./folder-lock.js";
import {
  StoreCorruptError,
  StoreFullError,
  StoreReadOnlyError,
} from "./store-errors.js";
import { kindOfStoreFile } from "./store-file.js";
import { checkPages } from "./store-pages.js";

/** Free disk below which even opening could end in SIGBUS: LMDB maps its files and then writes to the map. */
export const openingBytes = 1 << 20;

/** Folders of compaction beside data.mdb; what a crash leaves of them the next start removes. */
export const copyPrefix = "compacting-";

/** Removes what a crash has left of them. */
export async function removeCopies(path: string): Promise<void> {
  for (const name of await readdir(path))
    if (name.startsWith(copyPrefix)) await removeTree(join(path, name));
}

/** Empty, beside data.mdb, from its first transaction on: with it there, an empty data.mdb is not a new one. */
const madeMark = "made";

/**
 * Looks at the file of a data folder's store before LMDB is given it; one that has never held a transaction goes.
 *
 * @throws {StoreCorruptError} its pages are damaged, or it is gone
 * @throws {AssertionError} it is no file of LMDB
 */
export async function checkFile(folder: string): Promise<void> {
  const path = join(folder, "store");
  const file = join(path, "data.mdb");
  if ((await kindOfStoreFile(file)) === "store") await checkPages(file, folder);
  else if (existsSync(join(path, madeMark)))
    throw new StoreCorruptError(folder, "data.mdb is cut off or gone");
  else await removeTree(file);
}

/** Notes that data.mdb has held a transaction; where the disk does not take that, the next start does. */
export async function noteMade(path: string): Promise<void> {
  const mark = join(path, madeMark);
  if (existsSync(mark)) return;
  try {
    await (await open(mark, "a")).close();
    await syncFolder(path);
  } catch (error) {
    const named = writeFailure(error, mark);
    const isOfDisk =
      named instanceof DiskFullError || named instanceof DiskFailedError;
    if (!isOfDisk) throw error;
  }
}

/** How long a disk's free space is taken for what it was, ms; a write takes a few MiB in it. */
const freeForMs = 100;

/** Asks the disk for its free space, not at every one of hundreds of writes a second. */
export function freeBytesReader(): (folder: string) => Promise<number> {
  let last: { readonly at: number; readonly bytes: number } | undefined;
  return async (folder) => {
    const now = performance.now();
    if (last !== undefined && now - last.at < freeForMs) return last.bytes;
    const disk = await statfs(folder);
    last = { at: now, bytes: disk.bavail * disk.bsize };
    return last.bytes;
  };
}

/** What lmdb says of EIO and EROFS: its errors have no code of the system's. */
export const failedDisk = /input\/output error|read-only file system/i;

/** What lmdb says of every transaction after one whose root was not written; what was there may still be read. */
export const panicked = /MDB_PANIC/;

/** What reading a table failed of. @returns the error itself where it is one of ours */
export function readingFailure(folder: string, error: unknown): ReidError {
  if (error instanceof ReidError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  return panicked.test(message)
    ? new StoreReadOnlyError(folder, message, options)
    : new StoreCorruptError(folder, message, options);
}

/** What opening a store or a table failed of. */
export function openingFailure(folder: string, error: unknown): ReidError {
  if (
    error instanceof StoreFullError ||
    error instanceof StoreCorruptError ||
    error instanceof FormatNewerError
  )
    return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  const named = writeFailure(error, folder);
  if (/no space/i.test(message) || named instanceof DiskFullError)
    return new StoreFullError(folder, 0, openingBytes, options);
  if (
    failedDisk.test(message) ||
    panicked.test(message) ||
    named instanceof DiskFailedError
  )
    return new StoreReadOnlyError(folder, message, options);
  return new StoreCorruptError(folder, message, options);
}

/**
 * Makes a data folder, if need be, and takes its lock.
 *
 * @throws {StoreLockedError} @throws {StoreReadOnlyError} @throws {StoreFullError}
 * @throws {ConfigError} something that is no folder stands there
 */
export async function lockedFolder(folder: string): Promise<FolderLock> {
  try {
    await makeFolders(join(folder, "store"));
    return await lockFolder(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (["EROFS", "EACCES", "EPERM", "EIO"].includes(code))
      throw new StoreReadOnlyError(folder, code, { cause: error });
    if (code === "ENOSPC") throw new StoreFullError(folder, 0, openingBytes);
    // ENOENT: the folder that it should be in is there, and takes none, as those of /proc.
    if (["EEXIST", "ENOTDIR", "ENOENT"].includes(code))
      throw new ConfigError(
        "data folder",
        `${folder} (${code})`,
        "a folder, or a path where one can be made",
      );
    throw error;
  }
}
