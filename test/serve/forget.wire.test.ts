import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Store } from "#core/store";
import { foundIn } from "../support/file-search.js";
import { inFolder } from "../support/galleries.js";
import { finished } from "../support/operations.js";
import { wireEngine } from "../support/scaled.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
let backups = "";
before(async () => {
  backups = await mkdtemp(join(tmpdir(), "reid-backups-"));
  wire = await startWireServer({
    backup: { dir: backups },
    serve: { online: true },
  });
});
after(async () => {
  await wire.close();
  await rm(backups, { recursive: true });
});

/** Elsewhere they are PostgreSQL's. */
const hasBackups = wireEngine === "embedded";

const onTrack = (seed: number, trackId: string) => ({
  ...noiseCrop(seed),
  cameraId: "c1",
  trackId,
});

describe("ForgetIdentity", () => {
  test("takes entries, crops and the memory's rows of their tracks, and keeps a restore clean", async () => {
    const { AdminService, EmbedService, GalleryService, MemoryService } =
      wire.client;
    for (const name of ["door", "hall"])
      await GalleryService.CreateGallery({
        gallery: { name, cropRetention: "CROP_RETENTION_KEEP" },
      });
    await EmbedService.Embed({
      crops: [onTrack(1, "t1"), onTrack(2, "t1"), onTrack(3, "t2")],
    });
    // Other pictures than the memory has seen: its rows are found by their tracks.
    let picture = 10;
    const enroll = (gallery: string, identity: string, trackId: string) =>
      GalleryService.Enroll({
        gallery,
        enrollments: [
          { crop: onTrack(picture++, trackId), entry: { identity } },
          { feature: unitFeature(2), entry: { identity } },
        ],
      });
    await enroll("door", "anna", "t1");
    await enroll("hall", "anna", "t9");
    await enroll("door", "berta", "t2");
    await MemoryService.Recluster({});
    const backup = hasBackups
      ? await finished(wire.client, AdminService.CreateBackup({}))
      : undefined;
    const backupId = backup?.backup?.backupId ?? "";

    const one = await GalleryService.ForgetIdentity({
      identity: "anna",
      gallery: "hall",
      reason: "asked by letter",
    });
    assert.deepEqual(
      [one.entryCount, one.cropCount, one.memoryRowCount],
      ["2", "1", "0"],
    );
    const all = await GalleryService.ForgetIdentity({ identity: "anna" });
    assert.deepEqual(
      [all.entryCount, all.cropCount, all.memoryRowCount],
      ["2", "1", "1"],
    );
    assert.match(all.receiptId, /^[0-9a-f-]{36}$/);
    assert.ok(Number(all.forgottenAt?.seconds) > 0);
    assert.deepEqual(all.backupIds, hasBackups ? [backupId] : []);
    assert.deepEqual(all.modelVersions, []);
    const { memory } = await MemoryService.GetMemory({});
    assert.equal(memory?.rowCount, 1);

    if (hasBackups)
      await finished(wire.client, AdminService.RestoreBackup({ backupId }));
    for (const [gallery, left] of [
      ["door", ["berta", "berta"]],
      ["hall", []],
    ] as const) {
      const { entries } = await GalleryService.ListEntries({ gallery });
      assert.deepEqual(
        entries.map(({ identity }) => identity),
        left,
      );
    }
    const again = await GalleryService.ForgetIdentity({ identity: "anna" });
    assert.equal(again.entryCount, "0");
    const { status, body } = await metrics();
    assert.equal(status, 200);
    assert.match(
      body,
      /reid_gallery_writes_total\{[^}]*gallery="door"[^}]*write="forget"[^}]*\} 2/,
    );
  });

  test("finds the memory's rows by the pictures' bytes, and leaves nothing of them in any file", () =>
    inFolder(async (folder) => {
      const data = join(folder, "data");
      const settings = { serve: { online: true, data } };
      const mine = noiseCrop(71);
      const track = { cameraId: "c7", trackId: "t7" };
      let own = await startWireServer(settings);
      const { EmbedService, GalleryService, MemoryService } = own.client;
      const embedded = await EmbedService.Embed({
        crops: [mine, noiseCrop(72), { ...noiseCrop(73), ...track }],
      });
      // The same picture once more, as a later crop of a track that says nothing of the identity.
      await EmbedService.Embed({ crops: [{ ...mine, ...track }] });
      await GalleryService.CreateGallery({ gallery: { name: "door" } });
      await GalleryService.Enroll({
        gallery: "door",
        enrollments: [{ crop: mine, entry: { identity: "annegret" } }],
      });
      const featureOf = (i: number) =>
        embedded.results[i].feature?.f32le ?? Buffer.alloc(0);
      await own.server.settleMemory();
      const told = { name: Buffer.from("annegret"), feature: featureOf(0) };
      // Scaled out, entries and their names are in PostgreSQL; the memory is this server's own.
      assert.deepEqual(
        await foundIn(data, told),
        wireEngine === "scaled" ? ["feature"] : ["feature", "name"],
      );

      const receipt = await GalleryService.ForgetIdentity({
        identity: "annegret",
      });
      assert.deepEqual(
        [receipt.entryCount, receipt.cropCount, receipt.memoryRowCount],
        ["1", "0", "2"],
      );
      const { memory } = await MemoryService.GetMemory({});
      assert.equal(memory?.rowCount, 1);
      await own.close();
      // Nobody compacts the data folder there: docs/scale-out.md says so.
      if (wireEngine === "scaled") return;
      // The next start takes what was forgotten out of the store's free pages.
      own = await startWireServer(settings);
      await own.close();
      const hash = await hashUnderKey(data, mine.raw.data);
      assert.deepEqual(
        await foundIn(data, {
          ...told,
          picture: mine.raw.data.subarray(0, 64),
          hash: hash.subarray(0, 16),
          hexadecimal: Buffer.from(hash.toString("hex").slice(0, 32)),
          neighbour: featureOf(1),
        }),
        ["neighbour"],
      );
    }));

  test("refuses what is no identity, no gallery, and a reason that is too long", async () => {
    const { GalleryService } = wire.client;
    await refused(
      GalleryService.ForgetIdentity({ identity: "" }),
      "FIELD_INVALID",
    );
    const reason = "x".repeat(201);
    const long = GalleryService.ForgetIdentity({ identity: "a", reason });
    const { facts } = await refused(long, "FIELD_INVALID");
    assert.equal(facts["field"], "reason");
    await refused(
      GalleryService.ForgetIdentity({ identity: "a", gallery: "none" }),
      "GALLERY_NOT_FOUND",
    );
  });
});

/** The hash by which a data folder knows a crop. */
async function hashUnderKey(data: string, bytes: Uint8Array): Promise<Buffer> {
  const store = await Store.open(data, { minFreeBytes: 0 });
  const key = store.table("crop-hash-key", "bytes").get("key");
  await store.close();
  assert.ok(key !== undefined);
  return createHmac("sha256", key).update(bytes).digest();
}

async function metrics(): Promise<{ status: number; body: string }> {
  const { metricsAddress } = wire.server;
  const response = await fetch(
    `http://${metricsAddress?.host}:${metricsAddress?.port}/metrics`,
  );
  return { status: response.status, body: await response.text() };
}
