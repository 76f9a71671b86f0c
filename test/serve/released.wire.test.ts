import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Store } from "#core/store";
import { listBackups, readBackup } from "#index/backup";
import { openExport } from "#index/gallery-export";
import { bytesFromFeature } from "#index/gallery-records";

import { inFolder, openGalleries } from "../support/galleries.js";
import { finished } from "../support/operations.js";
import { reid } from "../support/reid-command.js";
import {
  assertHolds,
  readAll,
  readMemoryRows,
  releasedFolder,
  startOn,
  unpack,
  type Kept,
} from "../support/released.js";
import { wireEngine } from "../support/scaled.js";

type Held = readonly {
  readonly entries: readonly {
    readonly entryId: string;
    readonly identity: string;
    readonly feature: { readonly f32le: string };
  }[];
  readonly crops: readonly {
    readonly entryId: string;
    readonly crop: string;
  }[];
}[];

interface Answers {
  readonly galleries: readonly { readonly name: string }[];
  readonly held: Held;
  readonly backups: readonly { readonly backupId: string }[];
}

/** What a gallery held. */
function heldIn({ answers }: Kept, gallery: string): Held[number] {
  const { galleries, held } = answers as unknown as Answers;
  return held[galleries.findIndex(({ name }) => name === gallery)];
}

const skip = wireEngine === "scaled" && "the folder is the embedded engine's";

for (const version of readdirSync(releasedFolder)) {
  const from = join(releasedFolder, version);

  describe(`a data folder of version ${version}`, { skip }, () => {
    const withFolder = (
      action: (folder: string, kept: Kept) => Promise<void>,
    ): Promise<void> =>
      inFolder(async (folder) => {
        await unpack(from, folder);
        const kept = await readFile(join(folder, "kept.json"), "utf8");
        await action(folder, JSON.parse(kept) as Kept);
      });

    test("answers as it did: entries, features, crops, sequences, hits, memory, operations, requests", () =>
      withFolder(async (folder, kept) => {
        assertHolds(await readMemoryRows(folder), kept.memoryRows);
        const wire = await startOn(folder, kept.madeAtMs);
        try {
          assertHolds(await readAll(wire.client, kept), kept.answers);
        } finally {
          await wire.close();
        }
      }));

    test("takes writes, and is found whole then and after one more start", () =>
      withFolder(async (folder, kept) => {
        const data = join(folder, "data");
        const open = await openGalleries(data);
        const gallery = await open.galleries.get("graph");
        const before = gallery.describe().sequence;
        const feature = new Float32Array(16).fill(0.25);
        await gallery.enroll([{ entryId: "later", feature }]);
        assert.equal(gallery.describe().sequence, before + 1);
        await open.close();
        const { code, stderr } = await reid("index", "check", "--data", data);
        assert.equal(code, 0, stderr);
        const again = await openGalleries(data);
        const { entries } = await (
          await again.galleries.get("graph")
        ).listEntries({ pageSize: 1000 });
        assert.deepEqual(
          entries.map(({ entryId }) => entryId),
          [
            ...heldIn(kept, "graph").entries.map(({ entryId }) => entryId),
            "later",
          ],
        );
        await again.close();
      }));

    test("gives its backup back without what was forgotten since", () =>
      withFolder(async (folder, kept) => {
        const { backups } = kept.answers as unknown as Answers;
        const [{ backupId }] = backups;
        const wire = await startOn(folder, kept.madeAtMs);
        const { AdminService, GalleryService } = wire.client;
        try {
          const restored = await finished(
            wire.client,
            AdminService.RestoreBackup({
              backupId,
              galleries: { door: "before" },
            }),
          );
          assert.equal(
            restored.state,
            "OPERATION_STATE_SUCCEEDED",
            restored.error?.message,
          );
          const page = await GalleryService.ListEntries({ gallery: "before" });
          assert.deepEqual(
            page.entries.map(({ entryId }) => entryId),
            heldIn(kept, "door").entries.map(({ entryId }) => entryId),
          );
          assert.ok(
            page.entries.every(({ identity }) => identity !== kept.forgotten),
          );
        } finally {
          await wire.close();
        }
      }));

    for (const [name, gallery] of [
      ["graph", "graph"],
      ["door.parquet", "door"],
    ] as const)
      test(`gives its export ${name} back to an import`, () =>
        withFolder(async (folder, kept) => {
          const data = join(folder, "fresh");
          await mkdir(data);
          await (await Store.open(data, { minFreeBytes: 0 })).close();
          const { code, stderr } = await reid(
            ...["index", "import", "--data", data],
            ...["--from", join(folder, "exports", name)],
          );
          assert.equal(code, 0, stderr);
          const open = await openGalleries(data);
          const imported = await (
            await open.galleries.get(gallery)
          ).listEntries({ pageSize: 1000, view: "feature" });
          const held = heldIn(kept, gallery);
          assert.deepEqual(
            imported.entries.map(({ entryId, identity, feature }) => ({
              ...{ entryId, identity },
              feature: Buffer.from(
                bytesFromFeature(feature ?? new Float32Array()),
              ).toString("base64"),
            })),
            held.entries.map(({ entryId, identity, feature: { f32le } }) => ({
              ...{ entryId, identity },
              feature: f32le,
            })),
          );
          await open.close();
        }));
  });
}

describe("what a later version has written", { skip }, () => {
  test("is refused where it is a data folder, and left as it is", () =>
    inFolder(async (data) => {
      const store = await Store.open(data, { minFreeBytes: 0 });
      const formats = store.table<number>("format", "data");
      const numbers = store.table<number>("numbers", "data");
      await store.write((writer) => writer.put(numbers, "one", 1));
      assert.equal(formats.get("store"), 2);
      await store.write((writer) => writer.put(formats, "store", 3));
      await store.close();
      const file = join(data, "store", "data.mdb");
      const before = await readFile(file);
      await assert.rejects(Store.open(data), {
        code: "FORMAT_NEWER",
        message: `${join(data, "store")} is of format 3, this version reads formats up to 2: use the version that wrote it, or a later one`,
      });
      const { code, stdout } = await reid(
        ...["index", "check", "--data", data, "--json"],
      );
      assert.equal(code, 1);
      const { error } = JSON.parse(stdout) as { error: { code: string } };
      assert.equal(error.code, "FORMAT_NEWER");
      assert.deepEqual(await readFile(file), before);
    }));

  test("is refused where it is a backup, which the list leaves out", () =>
    inFolder(async (folder) => {
      const file = join(folder, "later", "backup.json");
      await mkdir(join(folder, "later"));
      await writeFile(file, JSON.stringify({ formatVersion: 3 }));
      await assert.rejects(readBackup(folder, "later"), {
        code: "FORMAT_NEWER",
      });
      assert.deepEqual(await listBackups(folder), []);
    }));

  test("is refused where it is an export", () =>
    inFolder(async (folder) => {
      const facts = JSON.stringify({ formatVersion: 2 });
      await writeFile(join(folder, "gallery.json"), facts);
      await assert.rejects(openExport(folder), { code: "FORMAT_NEWER" });
    }));
});
