import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

import { removeTree, sha256OfFile, writeFolderAtomically } from "#core/files";
import { isAsWritten, sealedJson, sealOf, type Seal } from "#core/sealed-json";

import { SnapshotCorruptError } from "./errors.js";
import { FaissIndex } from "./faiss.js";
import type { VectorIndex } from "./vector-index.js";

/** Version of the snapshot's layout (docs/formats.md). */
const formatVersion = 2;

/** Without a checksum of `snapshot.json` itself; still read. */
const unsealedVersion = 1;

/** What a snapshot says of itself, in `snapshot.json`. */
export interface SnapshotFacts {
  readonly formatVersion: number;
  readonly gallery: string;
  readonly dimension: number;
  readonly kind: string;
  /** The gallery's last write when it was taken. */
  readonly sequence: number;
  /** Of index.faiss, hexadecimal. */
  readonly sha256: string;
}

function folderOf(sequence: number): string {
  return String(sequence).padStart(16, "0");
}

async function foldersIn(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder);
    return names.filter((name) => /^\d{16}$/.test(name)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/**
 * Writes a snapshot of an index; the older ones go when it is in place.
 *
 * One of the same sequence goes before: whoever writes it again could not use it.
 *
 * @param folder  the gallery's folder of snapshots
 */
export async function saveSnapshot(
  folder: string,
  index: VectorIndex,
  gallery: { readonly name: string; readonly sequence: number },
): Promise<void> {
  const name = folderOf(gallery.sequence);
  await removeTree(join(folder, name));
  const before = await foldersIn(folder);
  await writeFolderAtomically(join(folder, name), async (temporary) => {
    const path = join(temporary, "index.faiss");
    await index.save(path);
    const facts: SnapshotFacts = {
      formatVersion,
      gallery: gallery.name,
      dimension: index.dimension,
      kind: index.spec.kind,
      sequence: gallery.sequence,
      sha256: await sha256OfFile(path),
    };
    const handle = await open(join(temporary, "snapshot.json"), "wx");
    try {
      await handle.writeFile(sealedJson(facts));
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
  for (const old of before) await removeTree(join(folder, old));
}

/** A snapshot that was read. */
export interface LoadedSnapshot {
  readonly index: VectorIndex;
  readonly facts: SnapshotFacts;
  /** Milliseconds since 1970. */
  readonly takenAtMs: number;
}

/** What a crash has left of snapshots that were being written: it holds features, also of what was forgotten since. */
async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names)
    if (name.startsWith(".") && name.endsWith(".tmp"))
      await removeTree(join(folder, name));
}

/**
 * Loads the newest snapshot of a gallery, and removes what a crash has left of others.
 *
 * @returns undefined where there is none
 * @throws {SnapshotCorruptError} its bytes are not what was written
 */
export async function loadSnapshot(
  folder: string,
): Promise<LoadedSnapshot | undefined> {
  await removeUnfinished(folder);
  const newest = (await foldersIn(folder)).at(-1);
  if (newest === undefined) return undefined;
  const path = join(folder, newest);
  const facts = await readFacts(path);
  const file = join(path, "index.faiss");
  let sha256: string;
  try {
    sha256 = await sha256OfFile(file);
  } catch (error) {
    throw new SnapshotCorruptError(path, "index.faiss cannot be read", {
      cause: error,
    });
  }
  if (sha256 !== facts.sha256)
    throw new SnapshotCorruptError(
      path,
      `index.faiss has sha256 ${sha256}, snapshot.json says ${facts.sha256}`,
    );
  const index = await FaissIndex.load(file);
  if (index.dimension !== facts.dimension || index.spec.kind !== facts.kind) {
    await index.close();
    throw new SnapshotCorruptError(
      path,
      "index.faiss and snapshot.json differ",
    );
  }
  const { mtimeMs } = await stat(join(path, "snapshot.json"));
  return { index, facts, takenAtMs: Math.round(mtimeMs) };
}

async function readFacts(path: string): Promise<SnapshotFacts> {
  let facts: Partial<SnapshotFacts>;
  let seal: Seal;
  try {
    const text = await readFile(join(path, "snapshot.json"), "utf8");
    seal = sealOf(text);
    facts = { ...(JSON.parse(text) as Partial<SnapshotFacts> | null) };
  } catch (error) {
    throw new SnapshotCorruptError(path, "snapshot.json cannot be read", {
      cause: error,
    });
  }
  const { formatVersion: version, gallery, dimension, kind } = facts;
  const { sequence, sha256 } = facts;
  if (!isAsWritten(seal, version, formatVersion))
    throw new SnapshotCorruptError(
      path,
      "snapshot.json is not as it was written",
    );
  if (
    (version !== formatVersion && version !== unsealedVersion) ||
    typeof gallery !== "string" ||
    typeof dimension !== "number" ||
    typeof kind !== "string" ||
    typeof sequence !== "number" ||
    typeof sha256 !== "string"
  )
    throw new SnapshotCorruptError(
      path,
      `snapshot.json is of format ${version}, not ${unsealedVersion} or ${formatVersion}`,
    );
  return { formatVersion: version, gallery, dimension, kind, sequence, sha256 };
}

/** Removes every snapshot of a gallery. @throws {DiskFailedError} */
export async function deleteSnapshots(folder: string): Promise<void> {
  await removeTree(folder);
}
