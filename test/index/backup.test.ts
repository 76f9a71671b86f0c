import assert from "node:assert/strict";
import {
  appendFile,
  mkdir,
  readdir,
  readFile,
  rm,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Store } from "#core/store";
import {
  deleteBackup,
  listBackups,
  readBackup,
  stageBackup,
  sweepBackups,
  writeBackup,
  type BackupOptions,
} from "#index/backup";
import type { Gallery } from "#index/gallery";
import { Tombstones } from "#index/tombstones";
import {
  featureNamed,
  inFolder,
  openGalleries,
  type OpenGalleries,
} from "../support/galleries.js";

const dimension = 12;
const spec = {
  name: "door",
  model: { name: "external", version: 1 },
  dimension,
  index: { kind: "flat" },
  cropRetention: "keep",
} as const;

async function fill(gallery: Gallery, names: readonly string[]): Promise<void> {
  await gallery.enroll(
    names.map((entryId) => ({
      entryId,
      identity: `p-${entryId}`,
      feature: featureNamed(entryId, dimension),
      crop: Buffer.from(`crop of ${entryId}`),
    })),
  );
}

const signal = new AbortController().signal;
const unreported = { signal, report: () => undefined };

function options(backupId: string): BackupOptions {
  return {
    ...{ backupId, ...unreported },
    createdAtMs: 1_700_000_000_000,
    serverVersion: "0.1.0",
  };
}

/** Backs the galleries of an open folder up. */
function backUp(
  { store }: OpenGalleries,
  folder: string,
  { id = "b1", galleries = [] as readonly string[] } = {},
) {
  return writeBackup(
    folder,
    { store, galleries, bundlesOf: () => Promise.resolve([]) },
    options(id),
  );
}

/** Restores from a backup into the galleries of an open folder. */
async function restore(
  open: OpenGalleries,
  folder: string,
  plan: Readonly<Record<string, string>>,
  during: (copy: Store) => Promise<void> = () => Promise.resolve(),
): Promise<readonly Gallery[]> {
  const staged = join(folder, "staged");
  await stageBackup(folder, "b1", staged, unreported);
  const copy = await Store.open(staged, { minFreeBytes: 0 });
  try {
    await during(copy);
    return await open.galleries.restore(
      copy,
      new Map(Object.entries(plan)),
      unreported,
    );
  } finally {
    await copy.close();
    await rm(staged, { recursive: true });
  }
}

async function idsOf(gallery: Gallery): Promise<readonly string[]> {
  const { entries } = await gallery.listEntries({ pageSize: 1000 });
  return entries.map(({ entryId }) => entryId);
}

describe("a backup", () => {
  test("holds the galleries as they were at one instant, and is listed once it is whole", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const backups = join(folder, "backups");
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a", "b"]);
      assert.deepEqual(await listBackups(backups), []);
      const manifest = await backUp(open, backups);
      assert.deepEqual(await listBackups(backups), [manifest]);
      const [{ name, entryCount, identityCount, sequence }] =
        manifest.galleries;
      assert.deepEqual(
        [name, entryCount, identityCount, sequence],
        ["door", 2, 2, 2],
      );
      assert.deepEqual(
        manifest.files.map(({ path }) => path),
        ["store/data.mdb"],
      );
      assert.deepEqual((await readdir(join(backups, "b1"))).sort(), [
        "backup.json",
        "store",
      ]);
      await open.close();
    }));

  test("holds only what was asked for, down to the bytes of its file", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const backups = join(folder, "backups");
      await fill(await open.galleries.create(spec), ["a"]);
      await fill(await open.galleries.create({ ...spec, name: "hall" }), [
        "secret",
      ]);
      const { galleries, complete } = await backUp(open, backups, {
        galleries: ["door"],
      });
      assert.equal(complete, false);
      assert.deepEqual(
        galleries.map(({ name }) => name),
        ["door"],
      );
      const bytes = await readFile(join(backups, "b1", "store", "data.mdb"));
      assert.ok(bytes.includes("crop of a"));
      assert.ok(!bytes.includes("secret"));
      await open.close();
    }));

  test("leaves nothing that counts where it is cut off, and goes when it is deleted", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const backups = join(folder, "backups");
      await fill(await open.galleries.create(spec), ["a"]);
      const abort = new AbortController();
      await assert.rejects(
        writeBackup(
          backups,
          {
            store: open.store,
            galleries: [],
            bundlesOf: () => {
              abort.abort(new RangeError("enough"));
              return Promise.resolve([]);
            },
          },
          { ...options("b0"), signal: abort.signal },
        ),
        /enough/,
      );
      assert.deepEqual(await readdir(backups), []);
      await backUp(open, backups);
      await mkdir(join(backups, ".b2.0123456789ab.tmp"));
      await mkdir(join(backups, "of-somebody-else"));
      assert.equal((await listBackups(backups)).length, 1);
      await sweepBackups(backups);
      assert.deepEqual((await readdir(backups)).sort(), [
        "b1",
        "of-somebody-else",
      ]);
      await deleteBackup(backups, "b1");
      await assert.rejects(deleteBackup(backups, "b1"), {
        code: "BACKUP_NOT_FOUND",
      });
      await assert.rejects(readBackup(backups, "b1"), {
        code: "BACKUP_NOT_FOUND",
      });
      await open.close();
    }));

  for (const [what, harm] of Object.entries({
    "a changed byte": (path: string) =>
      appendFile(join(path, "store", "data.mdb"), "x"),
    "a missing file": (path: string) => rm(join(path, "store", "data.mdb")),
    "a manifest that is no JSON": (path: string) =>
      writeFile(join(path, "backup.json"), "{"),
    "a manifest of another layout": (path: string) =>
      writeFile(join(path, "backup.json"), '{"formatVersion":0}'),
    "a manifest with another time": (path: string) =>
      changeManifest(path, (text) =>
        text.replace(/"createdAtMs": 1/, '"createdAtMs": 2'),
      ),
    "a manifest that says to be older than checksums are": (path: string) =>
      changeManifest(path, (text) =>
        text.replace(/"formatVersion": 2/, '"formatVersion": 1'),
      ),
    "a manifest without its checksum": (path: string) =>
      changeManifest(path, (text) =>
        text.replace(/,\n {2}"checksum": ".*"/, ""),
      ),
  }))
    test(`with ${what} is BACKUP_CORRUPT`, () =>
      inFolder(async (folder) => {
        const open = await openGalleries(join(folder, "data"));
        const backups = join(folder, "backups");
        await fill(await open.galleries.create(spec), ["a"]);
        await backUp(open, backups);
        await harm(join(backups, "b1"));
        await assert.rejects(
          stageBackup(backups, "b1", join(folder, "staged"), unreported),
          { code: "BACKUP_CORRUPT" },
        );
        await open.close();
      }));
});

/** Rewrites a backup's manifest. */
async function changeManifest(
  path: string,
  change: (text: string) => string,
): Promise<void> {
  const file = join(path, "backup.json");
  const text = await readFile(file, "utf8");
  const changed = change(text);
  assert.notEqual(changed, text);
  await writeFile(file, changed);
}

describe("a backup of format 1", () => {
  test("is read, though its manifest has no checksum", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const backups = join(folder, "backups");
      await fill(await open.galleries.create(spec), ["a"]);
      const { files } = await backUp(open, backups);
      await changeManifest(join(backups, "b1"), (text) =>
        text
          .replace(/"formatVersion": 2/, '"formatVersion": 1')
          .replace(/,\n {2}"checksum": ".*"/, ""),
      );
      const staged = join(folder, "staged");
      const manifest = await stageBackup(backups, "b1", staged, unreported);
      assert.equal(manifest.formatVersion, 1);
      assert.deepEqual(manifest.files, files);
      assert.equal((await listBackups(backups)).length, 1);
      await open.close();
    }));
});

describe("restoring a gallery", () => {
  test("takes later writes back, and goes on from the last sequence that was given", () =>
    inFolder(async (folder) => {
      let open = await openGalleries(join(folder, "data"));
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a", "b"]);
      await backUp(open, folder);
      await fill(gallery, ["c", "d", "e"]);
      await gallery.deleteEntries({ entryIds: ["a"] });
      const [restored] = await restore(open, folder, { door: "door" });
      assert.deepEqual(await idsOf(restored), ["a", "b"]);
      const crop = (await restored.getEntry("a", "crop")).crop ?? [];
      assert.equal(Buffer.from(crop).toString(), "crop of a");
      await assert.rejects(gallery.getEntry("b"), { code: "GALLERY_BUSY" });
      assert.equal(restored.describe().sequence, 6);
      const { sequence } = await restored.enroll([
        { entryId: "f", feature: featureNamed("f", dimension) },
      ]);
      assert.equal(sequence, 7);
      await open.close();
      open = await openGalleries(join(folder, "data"));
      assert.deepEqual(await idsOf(await open.galleries.get("door")), [
        ...["a", "b", "f"],
      ]);
      await open.close();
    }));

  test("goes beside it under another name, and in place of one that was deleted", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a", "b"]);
      await backUp(open, folder);
      await fill(gallery, ["c"]);
      const [twin] = await restore(open, folder, { door: "twin" });
      assert.deepEqual(await idsOf(twin), ["a", "b"]);
      assert.equal(twin.describe().sequence, 2);
      assert.deepEqual(await idsOf(gallery), ["a", "b", "c"]);
      await open.galleries.delete("door");
      const [again] = await restore(open, folder, { door: "door" });
      assert.equal(again.describe().sequence, 3);
      await assert.rejects(restore(open, folder, { hall: "hall" }), {
        code: "GALLERY_NOT_FOUND",
      });
      await open.close();
    }));

  test("loses no write that was acknowledged beside the commit: it is before it, or refused", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a"]);
      await backUp(open, folder);
      let isDone = false;
      let last = 0;
      const writing = (async () => {
        for (let i = 0; !isDone; i++) {
          try {
            const { sequence } = await gallery.enroll([
              { entryId: `w${i}`, feature: featureNamed("w", dimension) },
            ]);
            last = sequence;
          } catch (error) {
            assert.equal((error as { code?: string }).code, "GALLERY_BUSY");
            return;
          }
        }
      })();
      const [restored] = await restore(open, folder, { door: "door" });
      isDone = true;
      await writing;
      assert.deepEqual(await idsOf(restored), ["a"]);
      assert.ok(restored.describe().sequence >= last);
      await open.close();
    }));

  test("leaves out what was forgotten since, also in a new data folder", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(join(folder, "data"));
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a", "b"]);
      const tombstones = new Tombstones(open.store);
      await backUp(open, folder);
      const hash = await tombstones.hashOf("p-a");
      const forgottenAtUs = open.clock.now() * 1000;
      await open.store.write((writer) =>
        tombstones.put(writer, {
          ...hash,
          receiptId: "r1",
          gallery: "",
          forgottenAtUs,
        }),
      );
      open.clock.timeMs += 1000;
      await fill(gallery, ["a"]);
      const [restored] = await restore(open, folder, { door: "door" });
      assert.deepEqual(await idsOf(restored), ["b"]);
      // It was seen again after it had been forgotten: that entry is nobody's to forget.
      await fill(restored, ["a"]);
      await deleteBackup(folder, "b1");
      await backUp(open, folder);
      const fresh = await openGalleries(join(folder, "fresh"));
      const [moved] = await restore(fresh, folder, { door: "door" });
      assert.deepEqual(await idsOf(moved), ["b", "a"]);
      assert.equal(new Tombstones(fresh.store).all().length, 1);
      await fresh.close();
      await open.close();
    }));

  test("changes nothing where it fails", () =>
    inFolder(async (folder) => {
      let free = 1e12;
      const open = await openGalleries(join(folder, "data"), {
        store: { minFreeBytes: 1000, freeBytes: () => Promise.resolve(free) },
      });
      const gallery = await open.galleries.create(spec);
      await fill(gallery, ["a"]);
      await backUp(open, folder);
      await fill(gallery, ["b"]);
      free = 0;
      await assert.rejects(restore(open, folder, { door: "door" }), {
        code: "STORE_FULL",
      });
      free = 1e12;
      assert.deepEqual(await idsOf(gallery), ["a", "b"]);
      await fill(gallery, ["c"]);
      await open.close();
    }));
});
