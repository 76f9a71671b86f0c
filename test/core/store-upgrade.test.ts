import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Store } from "#core/store";
import { norm } from "#core/vectors";
import { featureFromBytes } from "#index/gallery-records";

import { flipWhere } from "../support/damage.js";
import { inFolder } from "../support/galleries.js";
import { releasedFolder, unpack } from "../support/released.js";

const storeModule = fileURLToPath(
  new URL("../../src/core/store.js", import.meta.url),
);

/** Written without checksums. */
const firstVersion = join(releasedFolder, "0.1.0", "data");

/** Runs an action on a data folder of format 1. */
function withFirstFormat(
  action: (folder: string) => Promise<void>,
): Promise<void> {
  return inFolder(async (folder) => {
    await unpack(firstVersion, folder);
    await action(folder);
  });
}

const dataFile = (folder: string) => join(folder, "store", "data.mdb");

describe("a value of the store", () => {
  test("is refused where a bit of it is another than was written; the others are read", () =>
    inFolder(async (folder) => {
      let store = await Store.open(folder, { minFreeBytes: 0 });
      const written = store.table("bytes", "bytes");
      const records = store.table<{ name: string }>("data", "data");
      await store.write((writer) => {
        writer.put(written, [1, 7], Buffer.from("seven of them"));
        writer.put(written, [1, 8], Buffer.from("eight of them"));
        writer.put(records, "a", { name: "somebody's" });
        writer.put(records, "b", { name: "nobody's" });
      });
      await store.close();
      await flipWhere(dataFile(folder), Buffer.from("seven"));
      await flipWhere(dataFile(folder), Buffer.from("somebody"));
      store = await Store.open(folder, { minFreeBytes: 0 });
      const bytes = store.table("bytes", "bytes");
      const data = store.table<{ name: string }>("data", "data");
      assert.throws(() => bytes.get([1, 7]), {
        code: "STORE_CORRUPT",
        kind: "data-loss",
        message: `store ${folder} cannot be read (the value of 1,7 in table bytes is damaged): restore the folder from a backup`,
      });
      assert.throws(() => [...bytes.range()], { code: "STORE_CORRUPT" });
      assert.throws(() => data.get("a"), { code: "STORE_CORRUPT" });
      assert.equal(String(bytes.get([1, 8])), "eight of them");
      assert.deepEqual(data.get("b"), { name: "nobody's" });
      assert.equal(bytes.has([1, 7]), true);
      assert.equal(bytes.count(), 2);
      await store.write((writer) => {
        writer.put(bytes, [1, 7], Buffer.from("seven again"));
      });
      assert.equal(String(bytes.get([1, 7])), "seven again");
      await store.close();
    }));

  test("is refused where it lies under another key than it was written under", () =>
    inFolder(async (folder) => {
      let store = await Store.open(folder, { minFreeBytes: 0 });
      const names = store.table("names", "bytes");
      await store.write((writer) =>
        writer.put(names, "the key", Buffer.from("the value")),
      );
      await store.close();
      await flipWhere(dataFile(folder), Buffer.from("the key"));
      store = await Store.open(folder, { minFreeBytes: 0 });
      const again = store.table("names", "bytes");
      assert.throws(() => [...again.range()], { code: "STORE_CORRUPT" });
      await store.close();
    }));
});

describe("a store of format 1", () => {
  test("is given checksums when it is opened, once, and says how far that is", () =>
    withFirstFormat(async (folder) => {
      const told: [number, number][] = [];
      const onUpgraded = (done: number, of: number) =>
        void told.push([done, of]);
      let store = await Store.open(folder, { minFreeBytes: 0, onUpgraded });
      const [, total] = told[0];
      assert.ok(total > 100);
      assert.deepEqual(told.at(-1), [total, total]);
      assert.equal(store.table("format", "data").get("store"), 2);
      const features = [...store.table("features", "bytes").range()];
      assert.ok(features.length > 10);
      for (const { value } of features)
        assert.ok(Math.abs(norm(featureFromBytes(value)) - 1) < 1e-6);
      await store.close();
      told.length = 0;
      store = await Store.open(folder, { minFreeBytes: 0, onUpgraded });
      assert.deepEqual(told, []);
      assert.deepEqual([...store.table("features", "bytes").range()], features);
      await store.close();
      assert.deepEqual((await readdir(join(folder, "store"))).sort(), [
        ...["data.mdb", "lock.mdb", "made"],
      ]);
    }));

  test("is as it was where its copy is ended in the middle, and is copied by the next start", () =>
    withFirstFormat(async (folder) => {
      const before = await readFile(dataFile(folder));
      const script = `const { Store } = await import(${JSON.stringify(storeModule)});
        await Store.open(${JSON.stringify(folder)}, { onUpgraded: () => process.kill(process.pid, "SIGKILL") });`;
      const { signal } = spawnSync(process.execPath, [
        ...["--input-type=module", "-e", script],
      ]);
      assert.equal(signal, "SIGKILL");
      assert.deepEqual(await readFile(dataFile(folder)), before);
      const store = await Store.open(folder, { minFreeBytes: 0 });
      assert.equal(store.table("format", "data").get("store"), 2);
      await store.close();
    }));

  test("is left as it is where its copy has no room", () =>
    withFirstFormat(async (folder) => {
      const before = await readFile(dataFile(folder));
      // Enough to open one that needs no copy.
      const freeBytes = async () => 1 << 20;
      const wanted = 8 * (1 << 20);
      await writeFile(
        dataFile(folder),
        Buffer.concat([before, Buffer.alloc(wanted - before.length)]),
      );
      await assert.rejects(Store.open(folder, { freeBytes }), {
        code: "STORE_FULL",
        facts: {
          folder,
          freeBytes: 1 << 20,
          minFreeBytes: 1.25 * wanted,
        },
      });
      const after = await readFile(dataFile(folder));
      assert.deepEqual(after.subarray(0, before.length), before);
    }));
});

test("a store whose label says that it has no checksums is refused where it has them", () =>
  inFolder(async (folder) => {
    const store = await Store.open(folder, { minFreeBytes: 0 });
    const formats = store.table<number>("format", "data");
    const numbers = store.table<number>("numbers", "data");
    await store.write((writer) => writer.put(numbers, "one", 1));
    for (const label of [1, 0, -1]) {
      await store.write((writer) => writer.put(formats, "store", label));
      const copy = join(folder, `copy${label}`);
      await store.copyTo(copy);
      await assert.rejects(Store.open(copy, { minFreeBytes: 0 }), {
        code: "STORE_CORRUPT",
      });
    }
    await store.close();
  }));
