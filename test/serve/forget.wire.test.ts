import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
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
    const enroll = (gallery: string, identity: string, trackId: string) =>
      GalleryService.Enroll({
        gallery,
        enrollments: [
          { crop: onTrack(1, trackId), entry: { identity } },
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

async function metrics(): Promise<{ status: number; body: string }> {
  const { metricsAddress } = wire.server;
  const response = await fetch(
    `http://${metricsAddress?.host}:${metricsAddress?.port}/metrics`,
  );
  return { status: response.status, body: await response.text() };
}
