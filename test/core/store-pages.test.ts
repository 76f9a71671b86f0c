import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { randomStream, type RandomStream } from "#core/random";
import { Store } from "#core/store";
import { checkPages } from "#core/store-pages";

import { inFolder } from "../support/galleries.js";

/** Writes and removes at random: small values and large ones, single keys and ranges, one table beside another. */
async function writeAtRandom(
  store: Store,
  random: RandomStream,
  transactions: number,
): Promise<void> {
  const tables = ["a", "b", "c"].map((name) => store.table(name, "bytes"));
  for (let i = 0; i < transactions; i++)
    await store.write((writer) => {
      for (let j = random.below(40); j >= 0; j--) {
        const table = tables[random.below(tables.length)];
        const key = [random.below(3), random.below(2000)];
        const draw = random.uniform();
        if (draw < 0.2) writer.remove(table, key);
        else if (draw < 0.22)
          writer.removeRange(table, { start: key, limit: random.below(200) });
        else {
          const bytes = random.below(draw < 0.4 ? 20_000 : 200);
          writer.put(table, key, new Uint8Array(bytes).fill(i));
        }
      }
    });
}

/** A store that much has been written to, closed. @returns its file */
async function usedStore(folder: string): Promise<string> {
  const store = await Store.open(folder, { minFreeBytes: 0 });
  await writeAtRandom(store, randomStream(4, "pages"), 60);
  await store.close();
  return join(folder, "store", "data.mdb");
}

describe("checkPages", () => {
  test("finds nothing in what LMDB writes, whatever was written, removed, compacted and copied", () =>
    inFolder(async (folder) => {
      const random = randomStream(5, "pages");
      for (let round = 0; round < 12; round++) {
        const store = await Store.open(folder, { minFreeBytes: 0 });
        await writeAtRandom(store, random, 10);
        if (round % 3 === 2) await store.compact();
        if (round % 4 === 3) await store.copyTo(join(folder, `copy-${round}`));
        await writeAtRandom(store, random, random.below(4));
        await store.close();
        await checkPages(join(folder, "store", "data.mdb"), folder);
      }
      for (const round of [3, 7, 11])
        await checkPages(
          join(folder, `copy-${round}`, "store", "data.mdb"),
          folder,
        );
    }));

  test("finds nothing in a store that is new, and in one whose tables are empty", () =>
    inFolder(async (folder) => {
      const file = join(folder, "store", "data.mdb");
      let store = await Store.open(folder, { minFreeBytes: 0 });
      await store.close();
      await checkPages(file, folder);
      store = await Store.open(folder, { minFreeBytes: 0 });
      const table = store.table("t", "bytes");
      await store.write((writer) => writer.put(table, 1, new Uint8Array(9)));
      await store.write((writer) => writer.remove(table, 1));
      await store.close();
      await checkPages(file, folder);
    }));

  test("refuses a file that ends before its pages do", () =>
    inFolder(async (folder) => {
      const file = await usedStore(folder);
      const bytes = await readFile(file);
      for (const kept of [0.1, 0.5, 0.9]) {
        const pages = Math.floor((bytes.length / 4096) * kept);
        await writeFile(file, bytes.subarray(0, 4096 * pages));
        await assert.rejects(checkPages(file, folder), {
          code: "STORE_CORRUPT",
        });
      }
    }));

  test("refuses a page that another took the place of, is used twice, or counts wrongly", () =>
    inFolder(async (folder) => {
      const file = await usedStore(folder);
      const bytes = await readFile(file);
      // The list of tables: its page has three or four nodes and is a leaf.
      const newest =
        bytes.readBigUInt64LE(152) > bytes.readBigUInt64LE(4096 + 152)
          ? 0
          : 4096;
      const root = Number(bytes.readBigUInt64LE(newest + 24 + 72 + 40));
      const harms: Readonly<Record<string, (copy: Buffer) => void>> = {
        "the number of a page": (copy) => {
          copy[4096 * root] ^= 1;
        },
        "the kind of a page": (copy) => {
          copy[4096 * root + 18] ^= 3;
        },
        "a transaction that has not been": (copy) => {
          copy[4096 * root + 15] ^= 1;
        },
        "where a node lies": (copy) => {
          copy[4096 * root + 24] ^= 2;
        },
        "the order of two nodes": (copy) => {
          const first = copy.readUInt16LE(4096 * root + 24);
          copy.writeUInt16LE(
            copy.readUInt16LE(4096 * root + 26),
            4096 * root + 24,
          );
          copy.writeUInt16LE(first, 4096 * root + 26);
        },
        "the page that a root points to": (copy) => {
          copy[newest + 24 + 72 + 40] ^= 1;
        },
        "how many entries there are": (copy) => {
          copy[newest + 24 + 72 + 32] ^= 1;
        },
        "the last transaction's number": (copy) => {
          copy[newest + 154] ^= 1;
        },
        "the size of a page": (copy) => {
          copy[newest + 24 + 25] ^= 0x30;
        },
      };
      for (const [what, harm] of Object.entries(harms)) {
        const copy = Buffer.from(bytes);
        harm(copy);
        await writeFile(file, copy);
        await assert.rejects(
          checkPages(file, folder),
          { code: "STORE_CORRUPT" },
          what,
        );
      }
    }));
});
