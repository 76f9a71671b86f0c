import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Gallery } from "#index/gallery";
import { hnswDefaults } from "#index/index-kinds";
import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";

const dimension = 12;
const spec = {
  name: "door",
  model: { name: "external", version: 1 },
  dimension,
  index: { kind: "flat" },
} as const;

async function fill(gallery: Gallery, from: number, to: number): Promise<void> {
  await gallery.enroll(
    Array.from({ length: to - from }, (_, i) => ({
      entryId: `e${from + i}`,
      feature: featureNamed(`e${from + i}`, dimension),
    })),
  );
}

async function nearest(gallery: Gallery, name: string): Promise<string> {
  const queries = featureNamed(name, dimension);
  const { results } = await gallery.search({ queries, k: 1 });
  return results[0].hits[0].entry.entryId;
}

describe("updating a gallery", () => {
  test("is durable, and a field left out stays", () =>
    inFolder(async (folder) => {
      let open = await openGalleries(folder);
      const gallery = await open.galleries.create({
        ...spec,
        defaultTtlMs: 60_000,
      });
      await gallery.update({ maxEntries: 3, tags: { hall: "1" } });
      await gallery.update({ defaultTtlMs: null, cropRetention: "keep" });
      await open.close();
      open = await openGalleries(folder);
      const reopened = await open.galleries.get("door");
      const facts = reopened.describe();
      assert.equal(facts.maxEntries, 3);
      assert.deepEqual(facts.tags, { hall: "1" });
      assert.equal(facts.defaultTtlMs, undefined);
      assert.equal(facts.cropRetention, "keep");
      assert.deepEqual(facts.index, { kind: "flat" });
      const { results } = await reopened.enroll(
        ["a", "b", "c", "d"].map((entryId) => ({
          entryId,
          feature: featureNamed(entryId, dimension),
        })),
      );
      assert.equal(results[3].error?.code, "GALLERY_FULL");
      await open.close();
    }));

  test("wants another index until a rebuild adopts it, also over a restart", () =>
    inFolder(async (folder) => {
      let open = await openGalleries(folder);
      let gallery = await open.galleries.create(spec);
      await fill(gallery, 0, 300);
      await gallery.update({ index: hnswDefaults });
      assert.equal(gallery.describe().index.kind, "flat");
      await open.close();

      open = await openGalleries(folder);
      gallery = await open.galleries.get("door");
      assert.deepEqual(gallery.wantedIndex, hnswDefaults);
      await gallery.rebuild();
      assert.equal(gallery.wantedIndex, undefined);
      assert.equal(gallery.describe().index.kind, "hnsw");
      assert.equal(await nearest(gallery, "e7"), "e7");
      await open.close();

      open = await openGalleries(folder);
      assert.equal(
        (await open.galleries.get("door")).describe().index.kind,
        "hnsw",
      );
      assert.deepEqual(open.lines, []);
      await open.close();
    }));

  test("takes entries and answers searches while the index is rebuilt", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      const gallery = await open.galleries.create(spec);
      await fill(gallery, 0, 3000);
      await gallery.update({ index: hnswDefaults });
      const seen: [number, number][] = [];
      let isDone = false;
      const rebuilding = gallery
        .rebuild({ report: (done, total) => seen.push([done, total]) })
        .finally(() => (isDone = true));
      assert.equal(gallery.describe().state, "rebuilding");
      let next = 3000;
      while (!isDone) {
        await fill(gallery, next, next + 5);
        await gallery.deleteEntries({ entryIds: [`e${next - 3000}`] });
        assert.equal(await nearest(gallery, `e${next + 4}`), `e${next + 4}`);
        next += 5;
      }
      await rebuilding;
      assert.ok(seen.every(([done, total]) => done <= total));
      assert.ok(seen.length > 2 && seen[0][0] === 0);
      assert.equal(gallery.describe().state, "ready");
      // Closing checks that index and store agree.
      await open.close();
    }));

  test("keeps the old index, and its snapshots, where the rebuild is given up", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      const gallery = await open.galleries.create(spec);
      await fill(gallery, 0, 2500);
      await gallery.snapshot();
      await gallery.update({ index: hnswDefaults });
      const abort = new AbortController();
      await assert.rejects(
        gallery.rebuild({
          signal: abort.signal,
          report: () => abort.abort(new RangeError("enough")),
        }),
        /enough/,
      );
      await gallery.keepIndex();
      assert.equal(gallery.wantedIndex, undefined);
      assert.equal(gallery.describe().index.kind, "flat");
      assert.equal(gallery.snapshotState.sequence, 2500);
      assert.equal(await nearest(gallery, "e7"), "e7");
      await open.close();
    }));
});

describe("an automatic index", () => {
  test("is flat until it is outgrown, says so once, and is rebuilt to hnsw", () =>
    inFolder(async (folder) => {
      const outgrown: string[] = [];
      const options = {
        flatBelow: 10,
        onOutgrown: (name: string) => outgrown.push(name),
      };
      let open = await openGalleries(folder, options);
      let gallery = await open.galleries.create({ ...spec, index: "auto" });
      await fill(gallery, 0, 9);
      assert.deepEqual([gallery.describe().index.kind, outgrown], ["flat", []]);
      await fill(gallery, 9, 12);
      await fill(gallery, 12, 14);
      assert.deepEqual(outgrown, ["door"]);
      await open.close();

      open = await openGalleries(folder, options);
      gallery = await open.galleries.get("door");
      assert.equal(gallery.wantedIndex?.kind, "hnsw");
      await gallery.rebuild();
      assert.equal(gallery.describe().index.kind, "hnsw");
      assert.equal(gallery.wantedIndex, undefined);
      await gallery.update({ index: { kind: "flat" } });
      await gallery.rebuild();
      assert.equal(gallery.wantedIndex, undefined);
      assert.equal(gallery.describe().index.kind, "flat");
      await open.close();
    }));
});
