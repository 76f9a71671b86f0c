import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";

import { open, type Database, type RootDatabase } from "lmdb";

import { makeOwnFolder, syncFile, syncFolder } from "./files.js";
import { refuseNewer } from "./format.js";
import { StoreCorruptError, StoreFullError } from "./store-errors.js";
import { environmentOptions, openTable } from "./store-file.js";
import { keyOf, type StoreKey } from "./store-keys.js";
import {
  decodeValue,
  encodeValue,
  labelTable,
  seal,
  sealBytesOf,
  unseal,
} from "./store-values.js";

/** Version of the tables' layout (docs/formats.md). 1: values carry no checksums. */
export const storeFormat = 2;

/** Bytes of one transaction of a copy. */
const copiedAtOnce = 8 << 20;

/** Every table of an environment. */
function tablesOf(
  root: RootDatabase,
): readonly (readonly [name: string, table: Database<Buffer>])[] {
  return [...root.getKeys()].map((key) => [
    String(key),
    openTable(root, String(key)),
  ]);
}

/**
 * Of what format a store is.
 *
 * @returns undefined: nothing was written to it
 * @throws {FormatNewerError}
 * @throws {StoreCorruptError} its label is none
 */
export function formatOf(
  folder: string,
  root: RootDatabase,
): number | undefined {
  const label = [...root.getKeys()].includes(labelTable)
    ? openTable(root, labelTable).get("store")
    : undefined;
  if (label === undefined)
    // The first versions wrote no label.
    return tablesOf(root).some(
      ([, table]) => table.getKeysCount({ limit: 1 }) > 0,
    )
      ? 1
      : undefined;
  const format = decodeValue("data", label);
  refuseNewer(join(folder, "store"), format, storeFormat);
  if (format !== 1 && format !== storeFormat)
    throw new StoreCorruptError(folder, `its format is ${String(format)}`);
  return format;
}

/**
 * Refuses to copy a store of format 1 that there is no room for, or that is none.
 *
 * @throws {StoreFullError}
 * @throws {StoreCorruptError} its values carry checksums: it is its label that is damaged
 */
export async function refuseUpgrade(
  folder: string,
  root: RootDatabase,
  freeBytes: number,
): Promise<void> {
  for (const [name, table] of tablesOf(root))
    for (const { key, value } of table.getRange({ limit: 1 }))
      if (
        name !== labelTable &&
        unseal(name, key as StoreKey, value) !== undefined
      )
        throw new StoreCorruptError(folder, "its label is damaged");
  const { size } = await stat(join(folder, "store", "data.mdb"));
  // A value that just filled a page takes two with its checksum; so many have none.
  const needed = Math.ceil(1.25 * size);
  if (freeBytes < needed) throw new StoreFullError(folder, freeBytes, needed);
}

/**
 * Copies a store of format 1 into `<folder>/store/`, as one of the present format: each value with its checksum.
 *
 * Resolves when the copy is flushed.
 *
 * @param onCopied  told how many values are copied, of how many
 */
export async function upgradedCopy(
  root: RootDatabase,
  folder: string,
  onCopied: (doneCount: number, totalCount: number) => void,
): Promise<void> {
  const path = join(folder, "store");
  await makeOwnFolder(path);
  const from = tablesOf(root);
  const total = from.reduce((sum, [, table]) => sum + table.getKeysCount(), 0);
  const copy = open(environmentOptions(path));
  let done = 0;
  try {
    for (const [name, table] of from) {
      const to = openTable(copy, name);
      for (const block of blocksOf(name, table)) {
        copy.transactionSync(() => {
          for (const [key, value] of block) to.putSync(keyOf(key), value);
        });
        done += block.length;
        onCopied(done, total);
        await setImmediate();
      }
    }
    const labels = openTable(copy, labelTable);
    const label = Buffer.from(encodeValue("data", storeFormat));
    copy.transactionSync(() => labels.putSync("store", label));
  } finally {
    await copy.close();
  }
  await syncFile(join(path, "data.mdb"));
  await syncFolder(path);
}

type Block = (readonly [key: StoreKey, value: Buffer])[];

/** The values of a table with their checksums, some MiB at a time. */
function* blocksOf(name: string, table: Database<Buffer>): Iterable<Block> {
  let block: Block = [];
  let bytes = 0;
  for (const { key, value } of table.getRange()) {
    const sealed = Buffer.concat([value, Buffer.alloc(sealBytesOf(name))]);
    seal(name, key as StoreKey, sealed);
    block.push([key as StoreKey, sealed]);
    bytes += sealed.length;
    if (bytes < copiedAtOnce) continue;
    yield block;
    block = [];
    bytes = 0;
  }
  if (block.length > 0) yield block;
}
