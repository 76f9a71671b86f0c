import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";

import type { Gallery } from "#index/galleries";
import { hnswDefaults, type IndexSpec } from "#index/index-kinds";
import { fieldBytes } from "#index/request-turns";

import { featureNamed } from "../support/galleries.js";
import { engines } from "../support/scaled.js";

const dimension = 16;
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
      identity: `p${(from + i) % 10}`,
      cameraId: "c1",
      trackId: `t${from + i}`,
      feature: featureNamed(`e${from + i}`, dimension),
      crop: Buffer.from(`picture ${from + i}`),
    })),
  );
}

/** The nearest entry, from the index alone, and how near it is. */
async function nearest(gallery: Gallery, name: string) {
  const { results } = await gallery.search({
    queries: featureNamed(name, dimension),
    k: 1,
    freshness: "indexed",
    minSequence: gallery.describe().sequence,
  });
  const [hit] = results[0].hits;
  return { entryId: hit.entry.entryId, similarity: hit.similarity };
}

/** One index of each kind, and of each storage that both engines have. */
const kinds: readonly IndexSpec[] = [
  hnswDefaults,
  { kind: "ivf", lists: 8, probes: 8 },
  { kind: "ivf", lists: 8, probes: 8, storage: "int8" },
  { kind: "ivf", lists: 8, probes: 8, pq: { segments: 8, bits: 8 } },
  { kind: "flat" },
];

for (const engine of engines)
  describe(`${engine.name} engine`, { skip: engine.skip }, () => {
    test("rebuilds an index to each kind, beside searches and writes, and every entry is in the new one", () =>
      engine.run(async ({ galleries, open }) => {
        const gallery = await galleries.create(spec);
        const others = open === undefined ? galleries : await open();
        await fill(gallery, 0, 600);
        let next = 600;
        for (const index of kinds) {
          await gallery.update({ index });
          assert.deepEqual(gallery.wantedIndex, index);
          const seen: [number, number][] = [];
          let isDone = false;
          const rebuilding = gallery
            .rebuild({ report: (done, total) => seen.push([done, total]) })
            .finally(() => (isDone = true));
          while (!isDone) {
            const other = await others.get("door");
            await fill(other, next, next + 3);
            await other.deleteEntries({ entryIds: [`e${next - 600}`] });
            const { results } = await other.search({
              queries: featureNamed(`e${next + 2}`, dimension),
              k: 1,
            });
            assert.equal(results[0].hits[0].entry.entryId, `e${next + 2}`);
            next += 3;
          }
          await rebuilding;
          assert.ok(seen.every(([done, total]) => done <= total));
          assert.equal(seen[0][0], 0);
          const after = await others.get("door");
          assert.equal(after.wantedIndex, undefined);
          assert.equal(after.describe().state, "ready");
          assert.deepEqual({ ...after.describe().index }, { ...index });
          for (const name of ["e599", `e${next - 1}`, `e${next - 3}`]) {
            const { entryId, similarity } = await nearest(after, name);
            assert.equal(entryId, name, JSON.stringify(index));
            // Codes only stand for features: what is answered is measured by these.
            assert.ok(Math.abs(similarity - 1) < 1e-5, String(similarity));
          }
          assert.notEqual((await nearest(after, "e0")).entryId, "e0");
        }
      }));

    test("keeps the old index where a rebuild is given up, and the wish until it is taken back", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        await fill(gallery, 0, 300);
        await gallery.update({ index: hnswDefaults });
        const abort = new AbortController();
        await assert.rejects(
          gallery.rebuild({
            signal: abort.signal,
            report: () => abort.abort(new RangeError("enough")),
          }),
          /enough/,
        );
        assert.deepEqual(gallery.wantedIndex, hnswDefaults);
        await gallery.keepIndex();
        assert.equal(gallery.wantedIndex, undefined);
        assert.equal(gallery.describe().index.kind, "flat");
        assert.equal((await nearest(gallery, "e7")).entryId, "e7");
        await gallery.rebuild();
        assert.equal((await nearest(gallery, "e7")).entryId, "e7");
      }));

    test("takes an update to the index that is there for none", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create({
          ...spec,
          index: { ...hnswDefaults, m: 16 },
        });
        const again = await galleries.get("door");
        await again.update({ index: { ...hnswDefaults, m: 16 } });
        assert.equal(gallery.wantedIndex, undefined);
      }));

    test("an automatic index is flat until it is outgrown, and says so once", async () => {
      const outgrown: string[] = [];
      await engine.run(
        async ({ galleries }) => {
          const gallery = await galleries.create({ ...spec, index: "auto" });
          await fill(gallery, 0, 9);
          assert.equal(gallery.describe().index.kind, "flat");
          assert.deepEqual(outgrown, []);
          await fill(gallery, 9, 12);
          await fill(gallery, 12, 14);
          assert.deepEqual(outgrown, ["door"]);
          await gallery.rebuild();
          assert.equal(gallery.describe().index.kind, "hnsw");
          assert.equal(gallery.wantedIndex, undefined);
          assert.equal((await nearest(gallery, "e13")).entryId, "e13");
        },
        { flatBelow: 10, onOutgrown: (name) => outgrown.push(name) },
      );
    });

    test("forgets an identity: entries, crops, its vectors and the answers that name it, and no other", () =>
      engine.run(async ({ galleries, open }) => {
        const kept = { ...spec, cropRetention: "keep" } as const;
        const gallery = await galleries.create(kept);
        const hall = await galleries.create({ ...kept, name: "hall" });
        const others = open === undefined ? galleries : await open();
        await fill(gallery, 0, 40);
        await fill(hall, 0, 20);
        const answered = new Map<string, string>();
        const answer = async (of: typeof galleries, identity: string) => {
          const requestId = answered.get(identity) ?? randomUUID();
          answered.set(identity, requestId);
          let calls = 0;
          await of.requests.once(
            { requestId, request: Buffer.from("of whom") },
            async (keep) => {
              calls++;
              const response = fieldBytes(identity);
              await of.requests.write((writer) => keep(writer, response));
              return response;
            },
          );
          return calls;
        };
        for (const identity of ["p3", "p4"]) await answer(galleries, identity);

        const rows = await (await others.get("door")).rowsOf("p3");
        assert.deepEqual(rows.map(({ trackId }) => trackId).sort(), [
          "t13",
          "t23",
          "t3",
          "t33",
        ]);
        const one = await others.forget("p3", "hall");
        assert.deepEqual(
          [one.entryCount, one.cropCount, [...one.galleries]],
          [2, 2, [["hall", 2]]],
        );
        const all = await galleries.forget("p3");
        assert.deepEqual(
          [all.entryCount, all.cropCount, [...all.galleries]],
          [4, 4, [["door", 4]]],
        );
        assert.notEqual(one.receiptId, all.receiptId);
        assert.deepEqual(
          all.rows.map(({ cameraId, trackId }) => cameraId + trackId).sort(),
          ["c1t13", "c1t23", "c1t3", "c1t33"],
        );
        const left = await others.get("door");
        assert.equal(left.describe().entryCount, 36);
        assert.equal(left.describe().identityCount, 9);
        await assert.rejects(left.getEntry("e13"), { code: "ENTRY_NOT_FOUND" });
        assert.notEqual((await nearest(left, "e13")).entryId, "e13");
        assert.equal((await nearest(left, "e14")).entryId, "e14");
        assert.equal(await answer(others, "p3"), 1, "its answer was kept");
        assert.equal(await answer(others, "p4"), 0, "another's answer is gone");
        // Of which nothing is there: a tombstone all the same, and an error where there is no gallery.
        assert.equal((await others.forget("nobody")).entryCount, 0);
        await assert.rejects(others.forget("p3", "none"), {
          code: "GALLERY_NOT_FOUND",
        });
      }));
  });
