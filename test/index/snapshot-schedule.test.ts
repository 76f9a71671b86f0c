import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Gallery } from "#index/gallery";
import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";

const dimension = 12;
const spec = {
  model: { name: "external", version: 1 },
  dimension,
} as const;

async function fill(gallery: Gallery, count: number): Promise<void> {
  await gallery.enroll(
    Array.from({ length: count }, (_, i) => ({
      feature: featureNamed(`e${i}`, dimension),
    })),
  );
}

/** Waits until a gallery's snapshot holds this write. */
async function savedUpTo(gallery: Gallery, sequence: number): Promise<void> {
  while (gallery.snapshotState.sequence < sequence)
    await new Promise((resolve) => setImmediate(resolve));
}

describe("snapshots in the background", () => {
  test("are taken after so many writes or so long, and the older one goes", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder, {
        snapshots: { writes: 10, afterMs: 60_000 },
      });
      const gallery = await open.galleries.create({ ...spec, name: "door" });
      const flat = await open.galleries.create({
        ...spec,
        name: "flat",
        index: { kind: "flat" },
      });
      await fill(gallery, 9);
      await fill(flat, 20);
      await open.galleries.sweep();
      assert.equal(gallery.snapshotState.takenAtMs, undefined);
      await fill(gallery, 3);
      await open.galleries.sweep();
      await savedUpTo(gallery, 12);
      await fill(gallery, 1);
      open.clock.timeMs += 59_999;
      await open.galleries.sweep();
      assert.equal(gallery.snapshotState.sequence, 12);
      open.clock.timeMs += 1;
      await open.galleries.sweep();
      await savedUpTo(gallery, 13);
      assert.equal(gallery.snapshotState.takenAtMs, open.clock.timeMs);
      // Nothing new: it may be as old as it likes.
      open.clock.timeMs += 3_600_000;
      await open.galleries.sweep();
      assert.equal(gallery.snapshotState.sequence, 13);
      assert.equal(flat.snapshotState.takenAtMs, undefined);
      await open.close();
      assert.deepEqual(await readdir(join(folder, "snapshots", "1")), [
        "0000000000000013",
      ]);
    }));
});
