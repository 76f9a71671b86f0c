import { createHash, randomBytes } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import {
  mkdir,
  open,
  rename,
  rm,
  stat,
  type FileHandle,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  ConfigError,
  DiskFailedError,
  DiskFullError,
  ReidError,
} from "./errors.js";

/** What a disk answers when nothing more goes on it, and a quota when nothing more may. */
const FULL: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

/** What a disk answers that fails, or has become read-only. */
const FAILED: ReadonlySet<unknown> = new Set(["EIO", "EROFS"]);

/**
 * Names the failure of a write that found no room, or a disk that does not take it.
 *
 * @param error  what the write threw, in this thread or another
 * @param path   what was to be written, by the name the user knows
 * @returns      a {@link DiskFullError}, a {@link DiskFailedError}, or the error itself where it is another
 */
export function writeFailure(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !("code" in error)) return error;
  const { code } = error;
  if (FULL.has(code))
    return new DiskFullError(path, String(code), { cause: error });
  if (FAILED.has(code))
    return new DiskFailedError(path, String(code), { cause: error });
  // Of a file inside a folder that is not in place yet: only the folder has a name that will stay.
  if (error instanceof ReidError && code === "DISK_FULL")
    return new DiskFullError(path, String(error.facts["cause"]), {
      cause: error,
    });
  return error;
}

/**
 * Flushes a file that another hand has written.
 *
 * @throws {DiskFailedError} @throws {DiskFullError}
 */
export function syncFile(path: string): Promise<void> {
  return sync(path, "r+");
}

async function sync(path: string, flags: "r" | "r+"): Promise<void> {
  try {
    const handle = await open(path, flags);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw writeFailure(error, path);
  }
}

/**
 * Removes a file, or a folder with all that is in it; one that is not there is no error.
 *
 * @throws {DiskFailedError} something of it is still there
 */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    throw writeFailure(error, path);
  }
}

/**
 * Makes a folder, and those above it, where nobody but this process makes and removes any.
 *
 * @throws {DiskFailedError} @throws {DiskFullError}
 */
export async function makeOwnFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    // What mkdir of Node says of a folder that a read-only or failing disk does not take.
    if ((error as NodeJS.ErrnoException).code === "ENOENT")
      throw new DiskFailedError(path, "ENOENT", { cause: error });
    throw writeFailure(error, path);
  }
  // Of a folder above that the disk has made, and says it has not, mkdir of Node makes no more and says nothing.
  if (!existsSync(path)) throw new DiskFailedError(path, "ENOENT");
}

/**
 * SHA-256 of a file, hexadecimal.
 *
 * @param signal  its reason is thrown between two pieces
 */
export async function sha256OfFile(
  path: string,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, {
    highWaterMark: 1 << 18,
  })) {
    signal?.throwIfAborted();
    hash.update(chunk as Uint8Array);
  }
  return hash.digest("hex");
}

/**
 * Flushes a folder's own entries to disk, so that a rename or a new file in it survives a power cut.
 *
 * @throws {DiskFailedError} @throws {DiskFullError}
 */
export function syncFolder(path: string): Promise<void> {
  return sync(path, "r");
}

/**
 * Writes a file so that a reader sees the old bytes or the new ones, never half of them.
 *
 * The bytes go to a temporary file beside it, are flushed, and the file is renamed into place.
 *
 * @throws {DiskFullError} there is no room for it; the old bytes stay
 * @throws {ConfigError} its folder cannot be made
 */
export async function writeAtomically(
  path: string,
  data: Uint8Array | string,
): Promise<void> {
  await writeFileAtomically(path, (handle) => handle.writeFile(data));
}

/**
 * The same for a file that is written in pieces.
 *
 * @param fill  writes the temporary file it is given
 * @throws {DiskFullError} there is no room for it; the old bytes stay
 * @throws {ConfigError} its folder cannot be made
 */
export async function writeFileAtomically(
  path: string,
  fill: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  await makeFolder(folder, path);
  const temporary = join(
    folder,
    `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`,
  );
  try {
    const handle = await open(temporary, "wx").catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException;
      throw code === "ENOENT" || code === "EACCES"
        ? noFolder(folder, code)
        : error;
    });
    try {
      await fill(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    // What it failed of is what is to be told, not that something of it is left.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeFailure(error, path);
  }
  await syncFolder(folder);
}

/**
 * Fills a temporary folder, flushes it, and renames it into place: a reader never sees half of it.
 *
 * @param path  the folder to make; must not exist
 * @param fill  writes the files into the temporary folder it is given
 * @throws {DiskFullError} there is no room for it
 * @throws {ConfigError} a file stands there, or the folder above it cannot be made
 */
export async function writeFolderAtomically(
  path: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const parent = dirname(path);
  await makeFolder(parent, path);
  const temporary = join(
    parent,
    `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`,
  );
  await makeFolder(temporary, path, path);
  try {
    await fill(temporary);
    await syncFolder(temporary);
    await rename(temporary, path).catch((error: unknown) => {
      const isFile = (error as NodeJS.ErrnoException).code === "ENOTDIR";
      throw isFile ? noFolder(path, "ENOTDIR") : error;
    });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(
      () => undefined,
    );
    throw writeFailure(error, path);
  }
  await syncFolder(parent);
}

/** What is answered where no folder can be: a file stands there or on the way, or nothing may be written. */
const NO_FOLDER: ReadonlySet<unknown> = new Set([
  // ENOENT: the folder that it should be in is there, and takes none.
  ...["EEXIST", "ENOTDIR", "ENOENT"],
  ...["EACCES", "EPERM", "EROFS"],
]);

/**
 * Makes a folder for output, and those above it.
 *
 * @param wantedFor  what is to be written into it
 * @param shown      the name by which the user knows it
 * @throws {ConfigError} it cannot be made there
 * @throws {DiskFullError} @throws {DiskFailedError}
 */
export async function makeFolder(
  folder: string,
  wantedFor = folder,
  shown = folder,
): Promise<void> {
  try {
    await makeFolders(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (NO_FOLDER.has(code)) throw noFolder(shown, String(code));
    throw writeFailure(error, wantedFor);
  }
}

/**
 * Makes a folder and those above it that are not there.
 *
 * As `mkdir` of Node with `recursive`, but for two things: that never ends where a folder takes none and says ENOENT,
 * as those of /proc do; and it says ENOENT too where a disk is read-only or fails.
 *
 * @throws as `mkdir`, of the first that cannot be made
 */
export async function makeFolders(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (await isFolder(path)) return;
    const parent = dirname(path);
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" || parent === path) throw error;
    await makeFolders(parent);
    await mkdir(path).catch(async (second: unknown) => {
      // Somebody else may have made it.
      if (!(await isFolder(path))) throw second;
    });
  }
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function noFolder(path: string, code: string): ConfigError {
  return new ConfigError(
    "output folder",
    `${path} (${code})`,
    "a folder, or a path where one can be made",
  );
}
