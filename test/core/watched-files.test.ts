import assert from "node:assert/strict";
import { rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { WatchedFiles } from "#core/watched-files";
import { inFolder } from "../support/galleries.js";

/** A watched file, and how often it was loaded and failed. */
async function watching(
  folder: string,
  load: () => Promise<void> = () => Promise.resolve(),
) {
  const file = join(folder, "file");
  await writeFile(file, "one");
  const seen = { loads: 0, failures: 0 };
  const watched = await WatchedFiles.open([file], {
    load: () => {
      seen.loads += 1;
      return load();
    },
    onFailure: () => {
      seen.failures += 1;
    },
  });
  return { file, seen, watched };
}

describe("watched files", () => {
  test("are loaded at once, and again after a change only", () =>
    inFolder(async (folder) => {
      const { file, seen, watched } = await watching(folder);
      await watched.look();
      assert.equal(seen.loads, 1);
      await writeFile(file, "twice");
      await watched.look();
      await watched.look();
      assert.equal(seen.loads, 2);
      await watched.close();
    }));

  test("are loaded again where a link was turned to another file of the same length", () =>
    inFolder(async (folder) => {
      const { file, seen, watched } = await watching(folder);
      const other = join(folder, "other");
      await writeFile(other, "two");
      await unlink(file);
      await symlink(other, file);
      await watched.look();
      assert.equal(seen.loads, 2);
      await watched.close();
    }));

  test("fail at first with what the load says, and later tell it and go on", () =>
    inFolder(async (folder) => {
      await assert.rejects(
        watching(folder, () => Promise.reject(new RangeError("broken"))),
        /broken/,
      );
      let isBroken = false;
      const { file, seen, watched } = await watching(folder, () =>
        isBroken ? Promise.reject(new RangeError("broken")) : Promise.resolve(),
      );
      isBroken = true;
      await rm(file);
      await watched.look();
      await watched.look();
      assert.deepEqual(seen, { loads: 2, failures: 1 });
      isBroken = false;
      await writeFile(join(folder, "new"), "three");
      await rename(join(folder, "new"), file);
      await watched.look();
      assert.deepEqual(seen, { loads: 3, failures: 1 });
      await watched.close();
    }));
});
