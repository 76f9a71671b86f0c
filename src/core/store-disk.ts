import { mkdir, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";

import {
  ConfigError,
  DiskFailedError,
  DiskFullError,
  ReidError,
} from "./errors.js";
import { removeTree, writeFailure } from "./files.js";
import { FormatNewerError } from "./format.js";
import { lockFolder, type FolderLock } from "./folder-lock.js";
import {
  StoreCorruptError,
  StoreFullError,
  StoreReadOnlyError,
} from "./store-errors.js";

/** Free disk below which even opening could end in SIGBUS: LMDB maps its files and then writes to the map. */
export const openingBytes = 1 << 20;

/** Folders of compaction beside data.mdb; what a crash leaves of them the next start removes. */
export const copyPrefix = "compacting-";

/** Removes what a crash has left of them. */
export async function removeCopies(path: string): Promise<void> {
  for (const name of await readdir(path))
    if (name.startsWith(copyPrefix)) await removeTree(join(path, name));
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
  if (error instanceof StoreFullError) return error;
  if (error instanceof FormatNewerError) return error;
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
    await mkdir(join(folder, "store"), { recursive: true });
    return await lockFolder(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    // mkdir of Node says ENOENT of a folder that a read-only or failing disk does not take.
    if (["EROFS", "EACCES", "EPERM", "EIO", "ENOENT"].includes(code))
      throw new StoreReadOnlyError(folder, code, { cause: error });
    if (code === "ENOSPC") throw new StoreFullError(folder, 0, openingBytes);
    if (["EEXIST", "ENOTDIR"].includes(code))
      throw new ConfigError(
        "data folder",
        `${folder} (${code})`,
        "a folder, or a path where one can be made",
      );
    throw error;
  }
}
