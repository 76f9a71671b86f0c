import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rm,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Store } from "#core/store";
import { takeBack } from "#core/store-file";

import { inFolder } from "../support/galleries.js";

const storeModule = fileURLToPath(
  new URL("../../src/core/store.js", import.meta.url),
);

describe("store", () => {
  test("keeps bytes and data under ordered keys over a restart", () =>
    inFolder(async (folder) => {
      let store = await Store.open(folder, { minFreeBytes: 0 });
      const bytes = store.table("bytes", "bytes");
      const data = store.table<{ name: string; list: number[] }>(
        "data",
        "data",
      );
      await store.write((writer) => {
        for (const key of [3, 1, 2]) {
          writer.put(bytes, [7, key], Uint8Array.of(key));
          writer.put(data, `k${key}`, { name: `n${key}`, list: [key] });
        }
        writer.put(bytes, [8, 0], Uint8Array.of());
      });
      await store.close();
      store = await Store.open(folder, { minFreeBytes: 0 });
      const again = store.table("bytes", "bytes");
      assert.deepEqual(
        [...again.range({ start: [7], end: [8] })].map(({ key, value }) => [
          key,
          ...value,
        ]),
        [
          [[7, 1], 1],
          [[7, 2], 2],
          [[7, 3], 3],
        ],
      );
      assert.equal(again.count(), 4);
      assert.deepEqual(store.table("data", "data").get("k2"), {
        name: "n2",
        list: [2],
      });
      await store.write((writer) => {
        writer.removeRange(again, { start: [7], end: [8] });
      });
      assert.equal(again.count(), 1);
      assert.equal(again.has([8, 0]), true);
      assert.equal(again.get([7, 1]), undefined);
      await store.close();
      assert.throws(() => again.get("x"), { code: "CLOSED" });
      await assert.rejects(
        store.write(() => 1),
        { code: "CLOSED" },
      );
      await store.close();
    }));

  test("writes nothing of a transaction whose action throws", () =>
    inFolder(async (folder) => {
      const store = await Store.open(folder, { minFreeBytes: 0 });
      const table = store.table<number>("t", "data");
      await assert.rejects(
        store.write((writer) => {
          writer.put(table, "a", 1);
          throw new RangeError("halfway");
        }),
        { message: "halfway" },
      );
      assert.equal(table.count(), 0);
      assert.equal(await store.write(() => 5), 5);
      await store.close();
    }));

  test("refuses a second opener by name, in this process and in another, and lets go when closed", () =>
    inFolder(async (folder) => {
      const store = await Store.open(folder, { minFreeBytes: 0 });
      const locked = { code: "STORE_LOCKED", kind: "failed-precondition" };
      await assert.rejects(Store.open(folder), locked);
      const script = `const { Store } = await import(${JSON.stringify(storeModule)});
        await Store.open(${JSON.stringify(folder)}).then(() => console.log("open"), (e) => console.log(e.code, e.message));`;
      const other = () =>
        spawnSync(process.execPath, ["--input-type=module", "-e", script], {
          encoding: "utf8",
        }).stdout;
      assert.match(
        other(),
        new RegExp(`^STORE_LOCKED .*process ${process.pid}`),
      );
      await store.close();
      assert.match(other(), /^open/);
      await (await Store.open(folder)).close();
    }));

  test("refuses writes below the least free space, before anything is written", () =>
    inFolder(async (folder) => {
      let free = 2e9;
      const store = await Store.open(folder, {
        minFreeBytes: 1e9,
        freeBytes: async () => free,
      });
      const table = store.table<number>("t", "data");
      await store.write((writer) => {
        writer.put(table, "a", 1);
      });
      free = 3;
      await assert.rejects(
        store.write((writer) => {
          writer.put(table, "b", 1);
        }),
        {
          code: "STORE_FULL",
          facts: { folder, freeBytes: 3, minFreeBytes: 1e9 },
        },
      );
      assert.equal((await store.status()).writable, false);
      assert.equal(table.get("a"), 1);
      free = 2e9;
      assert.equal((await store.status()).writable, true);
      await store.close();
    }));

  test("says that a folder is wanted where a file stands, or on the way", () =>
    inFolder(async (folder) => {
      const file = join(folder, "file");
      await writeFile(file, "");
      for (const path of [file, join(file, "inside")])
        await assert.rejects(Store.open(path), {
          code: "CONFIG_INVALID",
          message: /^data folder is .*file.*: expected a folder, or a path/,
        });
    }));

  test(
    "says that a folder is wanted that takes one, below one that takes none",
    { skip: !existsSync("/proc/self") && "there is no /proc here" },
    async () => {
      // Regression: mkdir of Node tried for ever.
      await assert.rejects(Store.open("/proc/data"), {
        code: "CONFIG_INVALID",
        message: /^data folder is \/proc\/data \(ENOENT\)/,
      });
    },
  );

  test("says that a folder is no store where its file is something else", () =>
    inFolder(async (folder) => {
      await mkdir(join(folder, "store"));
      await writeFile(join(folder, "store", "data.mdb"), "x".repeat(9000));
      await assert.rejects(Store.open(folder), { code: "STORE_CORRUPT" });
    }));

  test("is made anew where its file was cut off before the first transaction, and only then", () =>
    inFolder(async (folder) => {
      // Regression: a power cut while a data folder was made left one that no start could open.
      const file = join(folder, "store", "data.mdb");
      const store = await Store.open(folder, { minFreeBytes: 0 });
      const table = store.table<number>("numbers", "data");
      await store.write((writer) => {
        writer.put(table, "one", 1);
        writer.put(table, "two", 2);
      });
      await store.close();
      const bytes = await readFile(file);
      const meta = bytes.indexOf(Buffer.from([0xde, 0xc0, 0xef, 0xbe]));
      const unborn = Buffer.from(bytes.subarray(0, 4096));
      unborn.fill(0, meta + 128, meta + 136);
      await writeFile(file, unborn);
      await assert.rejects(Store.open(folder), { code: "STORE_CORRUPT" });
      await rm(join(folder, "store", "made"));
      const anew = await Store.open(folder, { minFreeBytes: 0 });
      assert.equal(anew.table<number>("numbers", "data").count(), 0);
      await anew.close();
      await writeFile(file, bytes.subarray(0, 4096));
      await assert.rejects(Store.open(folder), { code: "STORE_CORRUPT" });
    }));

  test("is not made anew where its file is empty or gone that has held something", () =>
    inFolder(async (folder) => {
      const file = join(folder, "store", "data.mdb");
      const store = await Store.open(folder, { minFreeBytes: 0 });
      await store.close();
      const bytes = await readFile(file);
      await writeFile(file, "");
      await assert.rejects(Store.open(folder), { code: "STORE_CORRUPT" });
      await rm(file);
      await assert.rejects(Store.open(folder), { code: "STORE_CORRUPT" });
      await writeFile(file, bytes);
      await (await Store.open(folder, { minFreeBytes: 0 })).close();
    }));

  test(
    "says that a folder cannot be written",
    { skip: process.getuid?.() === 0 && "root writes everywhere" },
    () =>
      inFolder(async (folder) => {
        await chmod(folder, 0o500);
        await assert.rejects(Store.open(folder), { code: "STORE_READ_ONLY" });
      }),
  );

  test("leaves removed bytes out of its file when it is compacted, while it is read and written", () =>
    inFolder(async (folder) => {
      let store = await Store.open(folder, { minFreeBytes: 0 });
      const table = store.table("bytes", "bytes");
      const value = (i: number) => Buffer.from(`value ${i} `.repeat(50));
      await store.write((writer) => {
        for (let i = 0; i < 200; i++) writer.put(table, i, value(i));
      });
      await store.write((writer) => {
        for (let i = 0; i < 200; i += 2) writer.remove(table, i);
      });
      const bytes = () => readFile(join(folder, "store", "data.mdb"));
      assert.ok((await bytes()).includes("value 8 "));
      const reading = table.range();
      const seen: unknown[] = [];
      for (const { key } of reading) {
        // In the middle of a range: it goes on over what it began with.
        if (seen.length === 3) {
          const compacting = store.compact();
          const writing = store.write((writer) =>
            writer.put(table, 8, value(9)),
          );
          await Promise.all([compacting, writing, store.compact()]);
          assert.deepEqual(table.get(8), value(9));
        }
        seen.push(key);
      }
      assert.deepEqual(
        seen,
        Array.from({ length: 100 }, (_, i) => 2 * i + 1),
      );
      assert.ok(!(await bytes()).includes("value 8 "));
      assert.ok((await bytes()).includes("value 7 "));
      await store.close();
      await mkdir(join(folder, "store", "compacting-cut-off"));
      store = await Store.open(folder, { minFreeBytes: 0 });
      const again = store.table("bytes", "bytes");
      assert.equal(again.count(), 101);
      assert.deepEqual(again.get(8), value(9));
      assert.deepEqual((await readdir(join(folder, "store"))).sort(), [
        "data.mdb",
        "lock.mdb",
        "made",
      ]);
      await store.write((writer) => writer.put(again, 1000, value(1)));
      await store.close();
    }));

  test("has nothing of a transaction that is taken back, and all of the one before", () =>
    inFolder(async (folder) => {
      const file = join(folder, "store", "data.mdb");
      const open = async () => {
        const store = await Store.open(folder, { minFreeBytes: 0 });
        return { store, table: store.table<number>("numbers", "data") };
      };
      let { store, table } = await open();
      for (const round of [1, 2, 3])
        await store.write((writer) => {
          for (let i = 0; i < 300; i++) writer.put(table, i, round);
          if (round === 3) writer.removeRange(table, { start: 100, end: 200 });
        });
      await store.close();
      await takeBack(file, await lastTransaction(file));
      ({ store, table } = await open());
      assert.deepEqual(
        [...table.range()].map(({ value }) => value),
        new Array(300).fill(2),
      );
      await store.write((writer) => writer.put(table, 0, 4));
      await store.close();
      ({ store, table } = await open());
      assert.deepEqual([table.get(0), table.get(1)], [4, 2]);
      await store.close();
    }));

  test("is copied into a folder of its own, once, and not after it is closed", () =>
    inFolder(async (folder) => {
      const store = await Store.open(folder, { minFreeBytes: 0 });
      const table = store.table("bytes", "bytes");
      await store.write((writer) => writer.put(table, 1, Uint8Array.of(1)));
      const copy = join(folder, "copy");
      await store.copyTo(copy);
      await assert.rejects(store.copyTo(copy), { code: "CONFIG_INVALID" });
      await store.close();
      await assert.rejects(store.compact(), { code: "CLOSED" });
      const other = await Store.open(copy, { minFreeBytes: 0 });
      assert.deepEqual([...(other.table("bytes", "bytes").get(1) ?? [])], [1]);
      await other.close();
    }));
});

/** The number of the newest of the two roots of a file of LMDB: pages of 4096 bytes, magic number, offset of mdb.c. */
async function lastTransaction(file: string): Promise<number> {
  const head = (await readFile(file)).subarray(0, 8192);
  const meta = head.indexOf(Buffer.from([0xde, 0xc0, 0xef, 0xbe]));
  return Math.max(
    ...[0, 4096].map((page) => Number(head.readBigUInt64LE(page + meta + 128))),
  );
}
