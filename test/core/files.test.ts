import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { DiskFullError, dataFromError, errorFromData } from "#core/errors";
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

  test(
    "refuses a path in a folder that takes no files, and names the folder",
    { skip: !existsSync("/proc/self") && "there is no /proc here" },
    () =>
      assert.rejects(writeAtomically("/proc/out", "x"), {
        code: "CONFIG_INVALID",
        message: /^output folder is \/proc \(ENOENT\)/,
      }),
  );

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

  test("refuses a path where a file stands, and leaves it as it was", async () => {
    const path = join(folder, "taken");
    await writeFile(path, "mine");
    await assert.rejects(
      writeFolderAtomically(path, () => Promise.resolve()),
      {
        code: "CONFIG_INVALID",
        message: `output folder is ${path} (ENOTDIR): expected a folder, or a path where one can be made`,
      },
    );
    assert.equal(await readFile(path, "utf8"), "mine");
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.includes("taken")),
      ["taken"],
    );
  });

  test(
    "says that the disk is full, names the folder, and leaves nothing behind",
    { skip: !existsSync("/dev/full") && "there is no /dev/full here" },
    async () => {
      const path = join(folder, "large");
      await assert.rejects(
        writeFolderAtomically(path, () => writeFile("/dev/full", "x")),
        {
          code: "DISK_FULL",
          kind: "resource-exhausted",
          message: `the disk is full, ${path} was not written (ENOSPC): free space on that disk, or write to another`,
        },
      );
      assert.equal(
        (await readdir(folder)).some((name) => name.includes("large")),
        false,
      );
    },
  );

  for (const [what, path] of [
    ["in", "/proc/out"],
    ["below", "/proc/out/of/it"],
    ["below", "/proc/self/out/of/it"],
  ] as const)
    test(
      `refuses ${path}, ${what} a folder that takes none, and names it`,
      { skip: !existsSync("/proc/self") && "there is no /proc here" },
      async () => {
        // Regression: mkdir of Node tried for ever.
        await assert.rejects(
          writeFolderAtomically(path, () => Promise.resolve()),
          { code: "CONFIG_INVALID", message: /^output folder is \/proc\/\w/ },
        );
      },
    );

  test("makes the folders above it", async () => {
    const path = join(folder, "a", "b", "c");
    await writeFolderAtomically(path, () => Promise.resolve());
    assert.deepEqual(await readdir(join(folder, "a", "b")), ["c"]);
  });

  test("names itself, not the temporary folder, where a file inside found no room", async () => {
    const path = join(folder, "outer");
    const inner = new DiskFullError(join(folder, ".outer.tmp/a"), "EDQUOT");
    for (const error of [inner, errorFromData(dataFromError(inner))])
      await assert.rejects(
        writeFolderAtomically(path, () => Promise.reject(error)),
        { code: "DISK_FULL", facts: { path, cause: "EDQUOT" } },
      );
  });
});
