import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import { reid } from "../support/reid-command.js";
import {
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const dimension = 16;
const model = { name: "external", version: 1 };

/** Runs `reid index … --json`; gives its exit code and what it printed. */
async function run(...args: readonly string[]) {
  const { code, stdout, stderr } = await reid("index", ...args, "--json");
  assert.match(stdout, /^[^\n]+\n$/, stderr);
  return {
    code,
    said: stderr,
    printed: JSON.parse(stdout) as Record<string, unknown> & {
      readonly error?: { readonly code: string };
    },
  };
}

describe("reid index backup and restore on a server", () => {
  let backups = "";
  let wire: WireServer;
  before(async () => {
    backups = await mkdtemp(join(tmpdir(), "reid-backups-"));
    wire = await startWireServer({ backup: { dir: backups } });
    await wire.client.GalleryService.CreateGallery({
      gallery: { name: "door" },
    });
    await enroll(0, 3);
  });
  after(async () => {
    await wire.close();
    await rm(backups, { recursive: true });
  });

  async function enroll(from: number, to: number): Promise<void> {
    await wire.client.GalleryService.Enroll({
      gallery: "door",
      enrollments: Array.from({ length: to - from }, (_, i) => ({
        entry: { entryId: `e${from + i}` },
        feature: unitFeature(from + i),
      })),
    });
  }

  async function entriesOf(gallery: string): Promise<readonly string[]> {
    const { entries } = await wire.client.GalleryService.ListEntries({
      gallery,
    });
    return entries.map(({ entryId }) => entryId);
  }

  test("make a backup while it serves, and bring it back beside the gallery and in its place", async () => {
    const server = ["--server", wire.address];
    const made = await run("backup", ...server);
    assert.equal(made.code, 0, made.said);
    const id = String(made.printed["backupId"]);
    assert.deepEqual(await readdir(backups), [id]);
    assert.ok(Number(made.printed["sizeBytes"]) > 0);
    assert.match(
      made.said,
      new RegExp(`^backup ${id}: \\d+ bytes on ${wire.address}$`, "m"),
    );
    await enroll(3, 5);
    const beside = await run(
      ...["restore", ...server, "--id", id, "--gallery", "door=twin"],
    );
    assert.equal(beside.code, 0, beside.said);
    assert.deepEqual(beside.printed, { backupId: id, galleries: ["twin"] });
    assert.deepEqual(await entriesOf("twin"), ["e0", "e1", "e2"]);
    assert.equal((await entriesOf("door")).length, 5);
    const all = await run("restore", ...server, "--id", id);
    assert.equal(all.code, 0, all.said);
    assert.deepEqual(await entriesOf("door"), ["e0", "e1", "e2"]);
  });

  for (const [what, args, code, exit] of [
    [
      "a gallery that is not there",
      ["backup", "--gallery", "hall"],
      "GALLERY_NOT_FOUND",
      1,
    ],
    [
      "a backup that is not there",
      ["restore", "--id", "none"],
      "BACKUP_NOT_FOUND",
      1,
    ],
    ["a restore without an id", ["restore"], "USAGE", 2],
    [
      "a data folder beside the server",
      ["backup", "--data", "data"],
      "USAGE",
      2,
    ],
    [
      "a folder of backups beside the server",
      ["restore", "--id", "none", "--from", "b"],
      "USAGE",
      2,
    ],
  ] as const)
    test(`refuse ${what}`, async () => {
      const answer = await run(...args, "--server", wire.address);
      assert.equal(answer.printed.error?.code, code, answer.said);
      assert.equal(answer.code, exit);
    });

  test("say that a server has no folder for backups", async () => {
    const own = await startWireServer();
    try {
      const { code, printed } = await run("backup", "--server", own.address);
      assert.equal(printed.error?.code, "BACKUP_OFF");
      assert.equal(code, 1);
    } finally {
      await own.close();
    }
  });
});

/** Flags that each command asks for, beside `--data`. */
const commands: Readonly<Record<string, readonly string[]>> = {
  check: [],
  describe: [],
  rebuild: [],
  repair: [],
  compact: [],
  backup: ["--out", "nowhere/backups"],
  export: ["--gallery", "door", "--out", "nowhere/out"],
  import: ["--from", "nowhere/out"],
  advise: ["--gallery", "door"],
};

describe("every command of reid index", () => {
  for (const [name, flags] of Object.entries(commands)) {
    test(`${name} refuses a folder without a store, and makes nothing there`, () =>
      inFolder(async (folder) => {
        const data = join(folder, "data");
        const { code, printed, said } = await run(
          ...[name, "--data", data, ...flags],
        );
        assert.equal(printed.error?.code, "CONFIG_INVALID", said);
        assert.equal(code, 2);
        assert.ok(!existsSync(data));
      }));

    test(`${name} says who has the folder open`, () =>
      inFolder(async (data) => {
        const open = await openGalleries(data);
        const { code, printed, said } = await run(
          ...[name, "--data", data, ...flags],
        );
        assert.equal(printed.error?.code, "STORE_LOCKED", said);
        assert.match(said, new RegExp(`in use by process ${process.pid}`));
        assert.equal(code, 1);
        await open.close();
      }));
  }

  test("restore says who has the folder open, before it copies anything", () =>
    inFolder(async (folder) => {
      const [data, backups] = [join(folder, "data"), join(folder, "backups")];
      const open = await openGalleries(data);
      await open.close();
      const made = await run("backup", "--data", data, "--out", backups);
      const again = await openGalleries(data);
      const { printed } = await run(
        ...["restore", "--data", data, "--from", backups],
        ...["--id", String(made.printed["backupId"])],
      );
      assert.equal(printed.error?.code, "STORE_LOCKED");
      assert.ok(!existsSync(join(data, "restoring")));
      await again.close();
    }));
});

describe("reid index", () => {
  /** A data folder with two entries in "door". */
  async function fill(data: string): Promise<void> {
    const open = await openGalleries(data);
    const door = await open.galleries.create({
      ...{ name: "door", model, dimension },
    });
    await door.enroll(
      ["a", "b"].map((entryId) => ({
        entryId,
        feature: featureNamed(entryId, dimension),
      })),
    );
    await open.close();
  }

  for (const [what, args, code, exit] of [
    [
      "backup into a file",
      ["backup", "--out", "FOLDER/file"],
      "CONFIG_INVALID",
      2,
    ],
    [
      "backup of a gallery that is not there",
      ["backup", "--out", "FOLDER/b", "--gallery", "hall"],
      "GALLERY_NOT_FOUND",
      1,
    ],
    [
      "export of a gallery that is not there",
      ["export", "--gallery", "hall", "--out", "FOLDER/o"],
      "GALLERY_NOT_FOUND",
      1,
    ],
    [
      "export where something stands",
      ["export", "--gallery", "door", "--out", "FOLDER/file"],
      "CONFIG_INVALID",
      2,
    ],
    [
      "import of what is not there",
      ["import", "--from", "FOLDER/none"],
      "EXPORT_FORMAT",
      1,
    ],
    [
      "import of a folder that is no export",
      ["import", "--from", "FOLDER"],
      "EXPORT_FORMAT",
      1,
    ],
    [
      "import of a file that is no export",
      ["import", "--from", "FOLDER/file"],
      "PARQUET_FORMAT",
      1,
    ],
    [
      "advice on a gallery that is not there",
      ["advise", "--gallery", "hall"],
      "GALLERY_NOT_FOUND",
      1,
    ],
    ["advice on two entries", ["advise", "--gallery", "door"], "USAGE", 2],
    [
      "repair of a gallery that is not there",
      ["repair", "--gallery", "hall"],
      "GALLERY_NOT_FOUND",
      1,
    ],
    [
      "restore of a backup that is not there",
      ["restore", "--from", "FOLDER", "--id", "none"],
      "BACKUP_NOT_FOUND",
      1,
    ],
  ] as const)
    test(`refuses ${what}`, () =>
      inFolder(async (folder) => {
        const data = join(folder, "data");
        await fill(data);
        await writeFile(join(folder, "file"), "not what is wanted");
        const answer = await run(
          ...args.map((one) => one.replace("FOLDER", folder)),
          ...["--data", data],
        );
        assert.equal(answer.printed.error?.code, code, answer.said);
        assert.equal(answer.code, exit);
        assert.equal((await run("check", "--data", data)).code, 0);
      }));

  test("restores nothing, and makes no folder, of a gallery that the backup has not", () =>
    inFolder(async (folder) => {
      const [data, other, backups] = ["data", "other", "backups"].map((name) =>
        join(folder, name),
      );
      await fill(data);
      const made = await run("backup", "--data", data, "--out", backups);
      const { printed } = await run(
        ...["restore", "--data", other, "--from", backups],
        ...["--id", String(made.printed["backupId"]), "--gallery", "hall"],
      );
      assert.equal(printed.error?.code, "GALLERY_NOT_FOUND");
      assert.ok(!existsSync(other));
    }));

  test("says which encoder a backup is without", () =>
    inFolder(async (folder) => {
      const data = join(folder, "data");
      const open = await openGalleries(data);
      await open.galleries.create({
        ...{ name: "door", model: { name: "gone", version: 3 }, dimension },
      });
      await open.close();
      const { code, said } = await run(
        ...["backup", "--data", data, "--out", join(folder, "backups")],
        ...["--models", join(folder, "models")],
      );
      assert.equal(code, 0);
      assert.match(said, /^model gone\/3 is not in \S+models: /m);
    }));
});
