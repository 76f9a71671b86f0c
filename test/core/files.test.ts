import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { writeAtomically, writeFolderAtomically } from "#core/files";

const folder = await mkdtemp(join(tmpdir(), "reid-files-"));
after(() => rm(folder, { recursive: true, force: true }));

describe("writeAtomically", () => {
  test("replaces a file and leaves no temporary one behind", async () => {
    const path = join(folder, "a", "state.json");
    await writeAtomically(path, "old");
    await writeAtomically(path, "new");
    assert.equal(await readFile(path, "utf8"), "new");
    assert.deepEqual(await readdir(join(folder, "a")), ["state.json"]);
  });

  test("leaves the old bytes and no temporary file when the target cannot be replaced", async () => {
    const path = join(folder, "b");
    await writeAtomically(join(path, "inside"), "x");
    await assert.rejects(writeAtomically(path, "a file where a folder is"));
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.endsWith(".tmp")),
      [],
    );
  });
});

describe("writeFolderAtomically", () => {
  test("shows the folder only when it is complete", async () => {
    const path = join(folder, "bundle");
    await writeFolderAtomically(path, async (temporary) => {
      await writeFile(join(temporary, "one"), "1");
      assert.equal((await readdir(folder)).includes("bundle"), false);
    });
    assert.deepEqual(await readdir(path), ["one"]);
  });

  test("removes everything when filling fails", async () => {
    const path = join(folder, "broken");
    await assert.rejects(
      writeFolderAtomically(path, () => Promise.reject(new TypeError("no"))),
      TypeError,
    );
    assert.equal(
      (await readdir(folder)).some((name) => name.includes("broken")),
      false,
    );
  });
});
