import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import type { Gallery } from "#index/gallery";
import { bytesFromFeature } from "#index/gallery-records";
import { hnswDefaults } from "#index/index-kinds";
import { foundIn } from "../support/file-search.js";
import {
  featureNamed,
  inFolder,
  openGalleries,
  type OpenGalleries,
} from "../support/galleries.js";

const dimension = 24;
const spec = {
  name: "door",
  model: { name: "external", version: 1 },
  dimension,
  index: hnswDefaults,
  cropRetention: "keep",
} as const;

/** Enrols `count` entries of an identity, each with a crop and a track. */
async function fill(
  gallery: Gallery,
  identity: string,
  count: number,
): Promise<void> {
  await gallery.enroll(
    Array.from({ length: count }, (_, i) => ({
      entryId: `${identity}-${i}`,
      identity,
      cameraId: "c1",
      trackId: `t-${identity}`,
      feature: featureNamed(`${identity}-${i}`, dimension),
      crop: Buffer.from(`picture of ${identity} ${i} `.repeat(40)),
    })),
  );
}

/** What nothing may be left of: name, picture, features of the first, a middle and the last entry. */
function tracesOf(identity: string): Readonly<Record<string, Uint8Array>> {
  const feature = (i: number) =>
    bytesFromFeature(featureNamed(`${identity}-${i}`, dimension));
  return {
    name: Buffer.from(identity),
    picture: Buffer.from(`picture of ${identity}`),
    "first feature": feature(0),
    "middle feature": feature(20),
    "last feature": feature(39),
  };
}

/** Two identities in a gallery, a snapshot with both, and an answer that names each. */
async function prepare(open: OpenGalleries): Promise<Gallery> {
  const gallery = await open.galleries.create(spec);
  for (const identity of ["margarete", "wilhelmine"]) {
    await fill(gallery, identity, 40);
    await open.galleries.requests.once(
      { requestId: randomUUID(), request: Buffer.from(identity.slice(0, 3)) },
      async (keep) => {
        const response = Buffer.from(
          `\n${String.fromCharCode(identity.length)}${identity}`,
        );
        await open.store.write((writer) => keep(writer, response));
        return response;
      },
    );
  }
  await gallery.snapshot();
  return gallery;
}

const everything = Object.keys(tracesOf("")).sort();

describe("forgetting an identity", () => {
  test("leaves nothing of it in any file after the compaction, and all of its neighbour", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      const gallery = await prepare(open);
      const traces = tracesOf("margarete");
      assert.deepEqual(await foundIn(folder, traces), everything);
      const forgotten = await open.galleries.forget("margarete");
      assert.deepEqual(
        [forgotten.entryCount, forgotten.cropCount, [...forgotten.galleries]],
        [40, 40, [["door", 40]]],
      );
      assert.deepEqual(forgotten.rows[0].trackId, "t-margarete");
      assert.equal(gallery.describe().entryCount, 40);
      await open.galleries.compact();
      assert.deepEqual(await foundIn(folder, traces), []);
      await gallery.snapshot();
      assert.deepEqual(await foundIn(folder, traces), []);
      assert.deepEqual(
        await foundIn(folder, tracesOf("wilhelmine")),
        everything,
      );
      const { results } = await gallery.search({
        queries: featureNamed("wilhelmine-3", dimension),
        k: 1,
      });
      assert.equal(results[0].hits[0].entry.entryId, "wilhelmine-3");
      await open.close();
    }));

  test("is compacted at the next start, whatever a crash cut off", () =>
    inFolder(async (folder) => {
      let open = await openGalleries(folder);
      await prepare(open);
      await open.galleries.forget("margarete");
      // Closed without the snapshot that would have to wait for the index's compaction.
      await open.close();
      open = await openGalleries(folder);
      const traces = tracesOf("margarete");
      assert.deepEqual(await foundIn(folder, traces), []);
      const { entries } = await (
        await open.galleries.get("door")
      ).listEntries({ pageSize: 100 });
      assert.equal(entries.length, 40);
      await open.close();
      assert.deepEqual(await foundIn(folder, traces), []);
    }));

  test("is compacted by the sweep when its time is over", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder, { compactAfterMs: 1000 });
      await prepare(open);
      await open.galleries.forget("margarete", "door");
      const traces = tracesOf("margarete");
      await open.galleries.sweep();
      assert.notDeepEqual(await foundIn(folder, traces), []);
      open.clock.timeMs += 1000;
      await open.galleries.sweep();
      assert.deepEqual(await foundIn(folder, traces), []);
      await open.close();
    }));

  test("goes on beside searches and enrolments, and through the compaction", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      const gallery = await prepare(open);
      let isDone = false;
      const enrolling = (async () => {
        let count = 0;
        while (!isDone) await fill(gallery, `new${count++}`, 3);
        return count;
      })();
      const searching = (async () => {
        while (!isDone)
          await gallery.search({
            queries: featureNamed("wilhelmine-3", dimension),
            k: 5,
          });
      })();
      await open.galleries.forget("margarete");
      await open.galleries.compact();
      isDone = true;
      const count = await enrolling;
      await searching;
      assert.ok(count > 0);
      assert.equal(gallery.describe().entryCount, 40 + 3 * count);
      assert.deepEqual(await foundIn(folder, tracesOf("margarete")), []);
      await open.close();
    }));

  test("of which nothing is there leaves a tombstone all the same", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      await open.galleries.create(spec);
      const first = await open.galleries.forget("nobody");
      const second = await open.galleries.forget("nobody", "door");
      assert.deepEqual([first.entryCount, first.galleries.size], [0, 0]);
      assert.notEqual(first.receiptId, second.receiptId);
      await assert.rejects(open.galleries.forget("nobody", "hall"), {
        code: "GALLERY_NOT_FOUND",
      });
      await open.close();
    }));
});
