import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { finished } from "../support/operations.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

/** Enrols entries by feature, e<from> to before e<to>, identity p<number>. */
async function enroll(
  { client }: WireServer,
  gallery: string,
  from: number,
  to: number,
) {
  await client.GalleryService.Enroll({
    gallery,
    enrollments: Array.from({ length: to - from }, (_, i) => ({
      entry: { entryId: `e${from + i}`, identity: `p${from + i}` },
      feature: unitFeature(from + i),
    })),
  });
}

async function entriesOf({ client }: WireServer, gallery: string) {
  const { entries } = await client.GalleryService.ListEntries({ gallery });
  return entries.map(({ entryId }) => entryId);
}

describe("backups over the wire", () => {
  let folder = "";
  let wire: WireServer;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "reid-backups-"));
    wire = await startWireServer({
      backup: { dir: folder },
      serve: { online: true },
    });
  });
  after(async () => {
    await wire.close();
    await rm(folder, { recursive: true });
  });

  test("are made, listed newest first, restored beside the gallery and in place of it, deleted", async () => {
    const { AdminService, GalleryService, OperationService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "made" } });
    await enroll(wire, "made", 0, 3);
    const first = await finished(wire.client, AdminService.CreateBackup({}));
    assert.equal(
      first.state,
      "OPERATION_STATE_SUCCEEDED",
      first.error?.message,
    );
    const backupId = first.backup?.backupId ?? "";
    assert.equal(first.subject, `backup/${backupId}`);
    assert.ok(Number(first.backup?.sizeBytes) > 0);
    assert.equal(first.doneCount, first.totalCount);
    const second = await finished(
      wire.client,
      AdminService.CreateBackup({ galleries: ["made"] }),
    );
    const page = await AdminService.ListBackups({ pageSize: 1 });
    const rest = await AdminService.ListBackups({
      pageToken: page.nextPageToken,
    });
    const ids = [...page.backups, ...rest.backups].map((one) => one.backupId);
    assert.deepEqual(ids, [second.backup?.backupId, backupId]);
    const [{ galleries, serverVersion }] = rest.backups;
    assert.match(serverVersion, /^\d+\.\d+\.\d+$/);
    assert.deepEqual(
      galleries.map(({ name, entryCount, identityCount }) => [
        ...[name, entryCount, identityCount],
      ]),
      [["made", "3", "3"]],
    );

    await enroll(wire, "made", 3, 5);
    const twin = await finished(
      wire.client,
      AdminService.RestoreBackup({ backupId, galleries: { made: "twin" } }),
    );
    assert.equal(twin.state, "OPERATION_STATE_SUCCEEDED", twin.error?.message);
    assert.deepEqual(await entriesOf(wire, "twin"), ["e0", "e1", "e2"]);
    assert.equal((await entriesOf(wire, "made")).length, 5);
    await finished(wire.client, AdminService.RestoreBackup({ backupId }));
    assert.deepEqual(await entriesOf(wire, "made"), ["e0", "e1", "e2"]);
    const { gallery } = await GalleryService.GetGallery({ gallery: "made" });
    assert.deepEqual([gallery?.sequence, gallery?.operationId], ["5", ""]);
    const { operations } = await OperationService.ListOperations({
      kind: "OPERATION_KIND_RESTORE",
      state: "OPERATION_STATE_SUCCEEDED",
    });
    assert.equal(operations.length, 2);

    await AdminService.DeleteBackup({ backupId });
    await refused(AdminService.DeleteBackup({ backupId }), "BACKUP_NOT_FOUND");
    const gone = await refused(
      AdminService.RestoreBackup({ backupId }),
      "BACKUP_NOT_FOUND",
    );
    assert.equal(gone.facts["backupId"], backupId);
  });

  test("bring the bundle of the gallery's model along", async () => {
    const { AdminService, GalleryService, EmbedService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "bundled" } });
    const made = await finished(
      wire.client,
      AdminService.CreateBackup({ galleries: ["bundled"] }),
    );
    const backupId = made.backup?.backupId ?? "";
    const other = await startWireServer({ backup: { dir: folder } });
    try {
      await rm(join(other.folder, "models"), { recursive: true });
      const { state } = await finished(
        other.client,
        other.client.AdminService.RestoreBackup({ backupId }),
      );
      assert.equal(state, "OPERATION_STATE_SUCCEEDED");
      assert.deepEqual(
        (await readdir(join(other.folder, "models", "door", "1"))).sort(),
        ["encoder.onnx", "manifest.json"],
      );
      const crop = noiseCrop(1);
      const { results } = await other.client.GalleryService.Enroll({
        gallery: "bundled",
        enrollments: [{ crop }],
      });
      assert.equal(results[0].error, null);
      assert.ok((await EmbedService.Embed({ crops: [crop] })).model);
    } finally {
      await other.close();
    }
  });

  test("that are damaged are refused whole", async () => {
    const { AdminService, GalleryService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "harmed" } });
    await enroll(wire, "harmed", 0, 1);
    const made = await finished(
      wire.client,
      AdminService.CreateBackup({ galleries: ["harmed"] }),
    );
    const backupId = made.backup?.backupId ?? "";
    await appendFile(join(folder, backupId, "store", "data.mdb"), "x");
    const { state, error } = await finished(
      wire.client,
      AdminService.RestoreBackup({ backupId }),
    );
    assert.deepEqual(
      [state, error?.reason],
      ["OPERATION_STATE_FAILED", "BACKUP_CORRUPT"],
    );
    assert.deepEqual(await entriesOf(wire, "harmed"), ["e0"]);
    await AdminService.DeleteBackup({ backupId });
  });

  test("are made once for one request id", async () => {
    const { AdminService } = wire.client;
    const request = { galleries: ["made"], requestId: randomUUID() };
    const { operation } = await AdminService.CreateBackup(request);
    const again = await AdminService.CreateBackup(request);
    assert.equal(again.operation?.operationId, operation?.operationId);
    await refused(
      AdminService.CreateBackup({ requestId: request.requestId }),
      "REQUEST_ID_REUSED",
    );
    await finished(wire.client, Promise.resolve(again));
  });

  test("refuse unknown galleries, bad names, and one name for two", async () => {
    const { AdminService } = wire.client;
    await refused(
      AdminService.CreateBackup({ galleries: ["none"] }),
      "GALLERY_NOT_FOUND",
    );
    await refused(
      AdminService.CreateBackup({ galleries: ["No Name"] }),
      "FIELD_INVALID",
    );
    await refused(AdminService.DeleteBackup({ backupId: "" }), "FIELD_INVALID");
    await refused(
      AdminService.RestoreBackup({ backupId: "../x" }),
      "FIELD_INVALID",
    );
    await refused(
      AdminService.RestoreBackup({
        backupId: "b",
        galleries: { made: "x", twin: "x" },
      }),
      "FIELD_INVALID",
    );
    await refused(
      AdminService.ListBackups({ pageToken: "x" }),
      "PAGE_TOKEN_INVALID",
    );
    const [{ backupId }] = (await AdminService.ListBackups({})).backups;
    await refused(
      AdminService.RestoreBackup({ backupId, galleries: { none: "x" } }),
      "GALLERY_NOT_FOUND",
    );
  });
});

describe("a server without a folder for backups", () => {
  let wire: WireServer;
  before(async () => (wire = await startWireServer()));
  after(() => wire.close());

  test("refuses every call about them", async () => {
    const { AdminService } = wire.client;
    await refused(AdminService.CreateBackup({}), "BACKUP_OFF");
    await refused(AdminService.ListBackups({}), "BACKUP_OFF");
    await refused(AdminService.DeleteBackup({ backupId: "b" }), "BACKUP_OFF");
    await refused(AdminService.RestoreBackup({ backupId: "b" }), "BACKUP_OFF");
  });

  test("takes a snapshot of a gallery's index as an operation", async () => {
    const { AdminService, GalleryService } = wire.client;
    await GalleryService.CreateGallery({
      gallery: { name: "g", index: { hnsw: {} } },
    });
    await enroll(wire, "g", 0, 20);
    const requestId = randomUUID();
    const taken = await finished(
      wire.client,
      AdminService.CreateSnapshot({ gallery: "g", requestId }),
    );
    assert.equal(
      taken.state,
      "OPERATION_STATE_SUCCEEDED",
      taken.error?.message,
    );
    assert.deepEqual([taken.doneCount, taken.totalCount], ["20", "20"]);
    const folders = await readdir(join(wire.folder, "data", "snapshots"), {
      recursive: true,
    });
    assert.ok(folders.includes("1/0000000000000020/index.faiss"));
    await refused(
      AdminService.CreateSnapshot({ gallery: "none" }),
      "GALLERY_NOT_FOUND",
    );
    await refused(
      AdminService.CreateSnapshot({ gallery: "No Name" }),
      "FIELD_INVALID",
    );
  });
});
