import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { watched } from "../support/operations.js";
import {
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer({ index: { flat_below: 60 } });
});
after(() => wire.close());

async function enroll(gallery: string, from: number, to: number) {
  await wire.client.GalleryService.Enroll({
    gallery,
    enrollments: Array.from({ length: to - from }, (_, i) => ({
      entry: { entryId: `e${from + i}` },
      feature: unitFeature(from + i),
    })),
  });
}

/** Waits for an operation's end; gives its state. */
async function ended(operationId: string): Promise<string | undefined> {
  return (await watched(wire.client, operationId)).at(-1)?.state;
}

describe("UpdateGallery", () => {
  test("changes the fields that the mask names and no other", async () => {
    const { GalleryService } = wire.client;
    await GalleryService.CreateGallery({
      gallery: { name: "masked", tags: { hall: "1" }, maxEntries: "9" },
    });
    const { gallery, operation } = await GalleryService.UpdateGallery({
      gallery: {
        name: "masked",
        cropRetention: "CROP_RETENTION_KEEP",
        defaultTtl: { seconds: "3600" },
        maxEntries: "7",
        tags: {},
      },
      updateMask: { paths: ["crop_retention", "default_ttl", "max_entries"] },
    });
    assert.equal(operation, null);
    assert.equal(gallery?.cropRetention, "CROP_RETENTION_KEEP");
    assert.equal(gallery.defaultTtl?.seconds, "3600");
    assert.equal(gallery.maxEntries, "7");
    assert.deepEqual(gallery.tags, { hall: "1" });
    const cleared = await GalleryService.UpdateGallery({
      gallery: { name: "masked" },
      updateMask: { paths: ["default_ttl", "tags", "model_policy"] },
    });
    assert.equal(cleared.gallery?.defaultTtl, null);
    assert.deepEqual(cleared.gallery?.tags, {});
  });

  test("rebuilds a changed index as an operation, refuses a second one meanwhile, and undoes a cancelled one", async () => {
    const { GalleryService, OperationService, SearchService } = wire.client;
    await GalleryService.CreateGallery({
      gallery: { name: "moved", index: { flat: {} } },
    });
    for (let at = 0; at < 2560; at += 256) await enroll("moved", at, at + 256);
    const slow = { hnsw: { m: 128, efConstruction: 2000 } };
    const change = (index: object) =>
      GalleryService.UpdateGallery({
        gallery: { name: "moved", index },
        updateMask: { paths: ["index"] },
      });
    const { gallery, operation } = await change(slow);
    const operationId = operation?.operationId ?? "";
    assert.equal(operation?.kind, "OPERATION_KIND_REBUILD");
    assert.equal(gallery?.state, "GALLERY_STATE_REBUILDING");
    assert.equal(gallery.operationId, operationId);
    const busy = await refused(change({ flat: {} }), "GALLERY_BUSY");
    assert.equal(busy.facts["operationId"], operationId);
    const { results } = await SearchService.Search({
      gallery: "moved",
      k: 1,
      queries: [{ entryId: "e5" }],
    });
    assert.equal(results[0].hits.length, 1);
    await OperationService.CancelOperation({ operationId });
    assert.equal(await ended(operationId), "OPERATION_STATE_CANCELLED");
    const kept = await GalleryService.GetGallery({ gallery: "moved" });
    assert.notEqual(kept.gallery?.index?.flat ?? null, null);
    assert.equal(kept.gallery?.state, "GALLERY_STATE_READY");

    const again = await change({ hnsw: { m: 16 } });
    assert.equal(
      await ended(again.operation?.operationId ?? ""),
      "OPERATION_STATE_SUCCEEDED",
    );
    const moved = await GalleryService.GetGallery({ gallery: "moved" });
    assert.equal(moved.gallery?.index?.hnsw?.m, 16);
    assert.equal(moved.gallery.operationId, "");
    assert.equal((await change({ hnsw: { m: 16 } })).operation, null);
  });

  test("refuses what cannot be changed, with the field's name", async () => {
    const { GalleryService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "fixed" } });
    const update = (paths: string[], gallery: object = {}) =>
      GalleryService.UpdateGallery({
        gallery: { name: "fixed", ...gallery },
        updateMask: { paths },
      });
    for (const call of [
      update([]),
      update(["dimension"]),
      update(["max_entries.a"]),
      update(["default_ttl"], { defaultTtl: { seconds: "1" } }),
      update(["index"], { index: { hnsw: { m: 3 } } }),
      GalleryService.UpdateGallery({ updateMask: { paths: ["tags"] } }),
      update(["tags"], { name: "No Name" }),
    ])
      await refused(call, "FIELD_INVALID");
    await refused(update(["tags"], { name: "none" }), "GALLERY_NOT_FOUND");
    await refused(
      update(["model_policy"], { modelPolicy: "MODEL_POLICY_FOLLOW_ACTIVE" }),
      "UNSUPPORTED",
    );
  });

  test("a gallery that names no index is flat, and turns to hnsw by itself when it has outgrown that", async () => {
    const { GalleryService, OperationService } = wire.client;
    const { gallery } = await GalleryService.CreateGallery({
      gallery: { name: "grows" },
    });
    assert.notEqual(gallery?.index?.flat ?? null, null);
    await enroll("grows", 0, 80);
    // It is started behind the answer to the write that was one too many.
    const started = async () =>
      (
        await OperationService.ListOperations({
          kind: "OPERATION_KIND_REBUILD",
        })
      ).operations.find(({ subject }) => subject === "gallery/grows");
    let own = await started();
    while (own === undefined) own = await started();
    assert.equal(await ended(own.operationId), "OPERATION_STATE_SUCCEEDED");
    const grown = await GalleryService.GetGallery({ gallery: "grows" });
    assert.equal(grown.gallery?.index?.hnsw?.m, 32);
  });
});
