import { copyFile } from "node:fs/promises";
import { join } from "node:path";

import { syncFile, syncFolder, writeFolderAtomically } from "#core/files";
import { BundleNotFoundError } from "#core/manifest-errors";
import { readManifest } from "#core/manifest";

import { BackupModelError } from "./errors.js";
import type { ModelVersion } from "./gallery-types.js";

/** What a bundle consists of. */
const bundleFiles = ["encoder.onnx", "manifest.json"];

/** Copies a bundle, whole or not at all; flushed when it resolves. @param to  a folder that is not there yet */
export async function copyBundle(from: string, to: string): Promise<void> {
  await writeFolderAtomically(to, async (temporary) => {
    for (const file of bundleFiles) {
      await copyFile(join(from, file), join(temporary, file));
      await syncFile(join(temporary, file));
    }
    await syncFolder(temporary);
  });
}

/**
 * Puts the bundle of a restored gallery into the models folder, where it is not there already.
 *
 * @param staged  the backup's folder, its files checked
 * @throws {BackupModelError} another encoder has that name and version here
 */
export async function installBundle(
  staged: string,
  modelsFolder: string,
  {
    backupId,
    model,
  }: { readonly backupId: string; readonly model: ModelVersion },
): Promise<void> {
  const place = join(model.name, String(model.version));
  const from = join(staged, "models", place);
  const to = join(modelsFolder, place);
  const backedUp = await manifestOf(from);
  // It was not in the models folder any more when the backup was made.
  if (backedUp === undefined) return;
  const present = await manifestOf(to);
  if (present === undefined) return copyBundle(from, to);
  if (present.sha256 !== backedUp.sha256)
    throw new BackupModelError(backupId, place);
}

async function manifestOf(folder: string) {
  try {
    return await readManifest(folder);
  } catch (error) {
    if (error instanceof BundleNotFoundError) return undefined;
    throw error;
  }
}
