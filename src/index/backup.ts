import { copyFile, readdir, readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

import {
  makeOwnFolder,
  removeTree,
  sha256OfFile,
  syncFolder,
  writeAtomically,
  writeFailure,
  writeFolderAtomically,
} from "#core/files";
import { FormatNewerError, refuseNewer } from "#core/format";
import { isAsWritten, sealedJson, sealOf } from "#core/sealed-json";
import { Store } from "#core/store";

import { copyBundle } from "./backup-bundles.js";
import { describeCopy, reduceCopy } from "./backup-copy.js";
import { BackupCorruptError, BackupNotFoundError } from "./errors.js";
import type { GalleryDescription, ModelVersion } from "./gallery-types.js";

/** Version of a backup's layout (docs/formats.md). */
const formatVersion = 2;

/** Without a checksum of `backup.json` itself; still read. */
const unsealedVersion = 1;

const manifestName = "backup.json";

/** One file of a backup. */
export interface BackupFile {
  /** From the backup's folder, with slashes. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

/** What a backup says of itself, in `backup.json`, which is written last. */
export interface BackupManifest {
  readonly formatVersion: 1 | 2;
  /** Its folder's name. */
  readonly backupId: string;
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  readonly serverVersion: string;
  /** As they were; `defaultTtlMs` left out: entries stay. */
  readonly galleries: readonly GalleryDescription[];
  /** Whether it holds all there was, online memories too. */
  readonly complete: boolean;
  /** All but backup.json, by path. */
  readonly files: readonly BackupFile[];
}

/** A bundle that a backup takes along. */
export interface BackedUpBundle extends ModelVersion {
  readonly folder: string;
}

/** What a backup is made of. */
export interface BackupSource {
  readonly store: Store;
  /** Names; empty: all of them, and everything else in the store. */
  readonly galleries: readonly string[];
  /** The bundles of models; asked when the store's copy is made, so that none is missing in it. */
  bundlesOf(
    models: readonly ModelVersion[],
  ): Promise<readonly BackedUpBundle[]>;
}

/** How a backup is named and followed. */
export interface BackupOptions {
  readonly backupId: string;
  readonly createdAtMs: number;
  readonly serverVersion: string;
  readonly signal: AbortSignal;
  /** Told how many bytes are in the backup, of how many. */
  readonly report: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Writes a backup, whole or not at all, while the store takes writes.
 *
 * The store is copied in one read transaction of LMDB. Files are hashed as they lie in the backup; the manifest
 * comes last, and the folder gets its name when everything in it is flushed.
 *
 * @param folder  of all backups
 * @throws {DiskFullError} there is no room for it
 * @throws the signal's reason
 */
export async function writeBackup(
  folder: string,
  source: BackupSource,
  options: BackupOptions,
): Promise<BackupManifest> {
  const { signal, report, backupId } = options;
  await writeFolderAtomically(join(folder, backupId), async (temporary) => {
    const { sizeBytes } = await source.store.status();
    report(0, sizeBytes);
    const galleries = await copyStore(temporary, source, signal);
    signal.throwIfAborted();
    const models = new Map(
      galleries.map(({ model }) => [`${model.name}/${model.version}`, model]),
    );
    for (const bundle of await source.bundlesOf([...models.values()]))
      await copyBundle(
        bundle.folder,
        join(temporary, "models", bundle.name, String(bundle.version)),
      );
    const paths = await filesIn(temporary);
    const sizes = await Promise.all(
      paths.map(async (path) => (await stat(join(temporary, path))).size),
    );
    const totalBytes = sizes.reduce((sum, size) => sum + size, 0);
    const files: BackupFile[] = [];
    let doneBytes = 0;
    for (const [i, path] of paths.entries()) {
      const sha256 = await sha256OfFile(join(temporary, path), signal);
      files.push({ path, sizeBytes: sizes[i], sha256 });
      doneBytes += sizes[i];
      report(doneBytes, totalBytes);
    }
    const manifest: BackupManifest = {
      formatVersion,
      backupId,
      createdAtMs: options.createdAtMs,
      serverVersion: options.serverVersion,
      galleries,
      complete: source.galleries.length === 0,
      files,
    };
    await writeAtomically(join(temporary, manifestName), sealedJson(manifest));
    signal.throwIfAborted();
  });
  return readBackup(folder, backupId);
}

/** Copies the store into the backup, less what was not asked for. @returns the galleries that are in it */
async function copyStore(
  temporary: string,
  { store, galleries }: BackupSource,
  signal: AbortSignal,
): Promise<readonly GalleryDescription[]> {
  if (galleries.length === 0) {
    await store.copyTo(temporary);
    const copy = await Store.open(temporary, { minFreeBytes: 0 });
    try {
      return await describeCopy(copy);
    } finally {
      await copy.close();
      await dropLocks(temporary);
    }
  }
  // What was not asked for stays in the free pages of the first copy: a second one leaves them out.
  const whole = join(temporary, "whole");
  await store.copyTo(whole);
  const copy = await Store.open(whole, { minFreeBytes: 0 });
  try {
    await reduceCopy(copy, new Set(galleries), signal);
    await copy.copyTo(temporary);
    return await describeCopy(copy);
  } finally {
    await copy.close();
    await removeTree(whole);
  }
}

/** What is of the process that had a data folder open, and of the folder itself. */
async function dropLocks(folder: string): Promise<void> {
  for (const path of ["lock", "store/lock.mdb", "store/made"])
    await removeTree(join(folder, path));
}

async function filesIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, {
    recursive: true,
    withFileTypes: true,
  });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    )
    .sort();
}

/**
 * Reads a backup's manifest; its files are not looked at.
 *
 * @throws {BackupNotFoundError} @throws {BackupCorruptError} @throws {FormatNewerError}
 */
export async function readBackup(
  folder: string,
  backupId: string,
): Promise<BackupManifest> {
  let text: string;
  try {
    text = await readFile(join(folder, backupId, manifestName), "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new BackupNotFoundError(backupId);
    throw error;
  }
  let manifest: Partial<BackupManifest>;
  try {
    manifest = { ...(JSON.parse(text) as Partial<BackupManifest> | null) };
  } catch (error) {
    throw new BackupCorruptError(backupId, `${manifestName} is no JSON`, {
      cause: error,
    });
  }
  const seal = sealOf(text);
  const { formatVersion: version } = manifest;
  // A later format may have its checksum elsewhere; this one's may say to be of a later one by a damaged digit.
  if (seal !== "broken")
    refuseNewer(join(folder, backupId, manifestName), version, formatVersion);
  if (!isAsWritten(seal, version, formatVersion))
    throw new BackupCorruptError(
      backupId,
      `${manifestName} is not as it was written`,
    );
  if (
    (version !== formatVersion && version !== unsealedVersion) ||
    manifest.backupId !== backupId ||
    !Array.isArray(manifest.galleries) ||
    !Array.isArray(manifest.files)
  )
    throw new BackupCorruptError(
      backupId,
      `${manifestName} is not of format ${unsealedVersion} or ${formatVersion}, or of another backup`,
    );
  return manifest as BackupManifest;
}

/** The backups of a folder, newest first; what has no whole manifest is none. */
export async function listBackups(
  folder: string,
): Promise<readonly BackupManifest[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  const manifests: BackupManifest[] = [];
  for (const name of names) {
    if (name.startsWith(".")) continue;
    try {
      manifests.push(await readBackup(folder, name));
    } catch (error) {
      const isNone =
        error instanceof BackupNotFoundError ||
        error instanceof BackupCorruptError ||
        error instanceof FormatNewerError;
      if (!isNone) throw error;
    }
  }
  return manifests.sort(
    (a, b) =>
      b.createdAtMs - a.createdAtMs || (a.backupId < b.backupId ? 1 : -1),
  );
}

/**
 * Deletes a backup. Its manifest goes first: what a crash leaves is no backup any more.
 *
 * @throws {BackupNotFoundError} @throws {DiskFailedError}
 */
export async function deleteBackup(
  folder: string,
  backupId: string,
): Promise<void> {
  const path = join(folder, backupId);
  try {
    await rm(join(path, manifestName));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new BackupNotFoundError(backupId);
    throw writeFailure(error, path);
  }
  await syncFolder(path);
  await removeTree(path);
  await syncFolder(folder);
}

/** Removes what backups and deletions that were cut off have left in a folder of backups. */
export async function sweepBackups(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names)
    if (/^\..+\.[0-9a-f]{12}\.tmp$/.test(name))
      await removeTree(join(folder, name));
}

/**
 * Copies a backup's files beside the living data and holds the copies to the manifest.
 *
 * @param target  a folder that is not there yet
 * @throws {BackupNotFoundError} @throws {BackupCorruptError} @throws {DiskFullError} @throws {DiskFailedError}
 */
export async function stageBackup(
  folder: string,
  backupId: string,
  target: string,
  { signal, report }: Pick<BackupOptions, "signal" | "report">,
): Promise<BackupManifest> {
  const manifest = await readBackup(folder, backupId);
  const { files } = manifest;
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  let doneBytes = 0;
  for (const { path, sizeBytes, sha256 } of files) {
    signal.throwIfAborted();
    const copy = join(target, path);
    await makeOwnFolder(dirname(copy));
    try {
      await copyFile(join(folder, backupId, path), copy);
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === "ENOENT"
        ? new BackupCorruptError(backupId, `${path} is missing`)
        : writeFailure(error, copy);
    }
    // The copy is judged: what is read later is what was checked.
    const found = await sha256OfFile(copy, signal);
    if (found !== sha256)
      throw new BackupCorruptError(
        backupId,
        `${path} has sha256 ${found.slice(0, 12)}…, the manifest says ${sha256.slice(0, 12)}…`,
      );
    doneBytes += sizeBytes;
    report(doneBytes, totalBytes);
  }
  return manifest;
}
