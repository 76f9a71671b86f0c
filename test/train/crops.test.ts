import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { batchesOf, CropLoader } from "../../src/train/crops.js";
import { readMarket1501 } from "../../src/train/data/market1501.js";
import type { CropRef, SkippedFile } from "../../src/train/data/data-set.js";
import { openDomain } from "../../src/train/domain-crops.js";
import { STRIPED_SIZE, writeStripedDomain } from "../support/striped-domain.js";

let root = "";
let crops: readonly CropRef[] = [];

before(async () => {
  root = await mkdtemp(join(tmpdir(), "crops-"));
  await writeStripedDomain({
    folder: root,
    seed: 1,
    identities: 4,
    cameras: 2,
    crops: 2,
  });
  const data = await readMarket1501(root, {
    skipBad: false,
    splits: ["train"],
  });
  crops = data.train;
});
after(() => rm(root, { recursive: true }));

/** Runs with a loader and closes it. */
async function withLoader<T>(
  options: { readonly workers?: number; readonly cacheBytes?: number },
  use: (loader: CropLoader) => Promise<T>,
): Promise<T> {
  const loader = new CropLoader({
    ...STRIPED_SIZE,
    workers: 1,
    cacheBytes: 1e9,
    ...options,
  });
  try {
    return await use(loader);
  } finally {
    await loader.close();
  }
}

const view = { seed: 5, name: "target", epoch: 2, iteration: 3, padPx: 4 };

describe("CropLoader", () => {
  test("makes the same views with one worker or three, cached, partly cached or not", async () => {
    const list = Int32Array.of(3, 0, 7, 3, 15);
    const views = await Promise.all(
      [
        { workers: 1 },
        { workers: 3 },
        { workers: 2, cacheBytes: 5 * 32 * 16 * 3 },
        { workers: 2, cacheBytes: 0 },
      ].map((options) =>
        withLoader(options, async (loader) => {
          const set = loader.add(crops);
          await loader.trainingBatch(set, list, { ...view, iteration: 9 });
          return loader.trainingBatch(set, list, view);
        }),
      ),
    );
    for (const other of views.slice(1)) assert.deepEqual(other, views[0]);
    const size = 3 * 32 * 16;
    assert.notDeepEqual(
      views[0].subarray(0, size),
      views[0].subarray(3 * size, 4 * size),
      "a crop that stands in a batch twice has two views",
    );
  });

  test("gives pixels that normalize to what evaluation sees", async () => {
    await withLoader({}, async (loader) => {
      const set = loader.add(crops);
      const pixels = await loader.pixelBatch(set, Int32Array.of(6));
      const images = await loader.evaluationBatch(set, Int32Array.of(6));
      assert.equal(pixels.length, images.length);
      const red = (pixels[3 * 100] / 255 - 0.485) / 0.229;
      assert.ok(Math.abs(images[100] - red) < 1e-6);
    });
  });

  test("reuses the memory that is given back", async () => {
    await withLoader({}, async (loader) => {
      const set = loader.add(crops);
      const first = await loader.evaluationBatch(set, Int32Array.of(0, 1));
      const expected = first.slice();
      loader.release(first);
      const second = await loader.evaluationBatch(set, Int32Array.of(0, 1));
      assert.equal(first.length, 0, "the old view is gone with its memory");
      assert.deepEqual(second, expected);
    });
  });

  test("refuses work after close", async () => {
    const closed = await withLoader({}, async (loader) => loader);
    assert.throws(() => closed.add(crops), { code: "CLOSED" });
  });
});

describe("openDomain", () => {
  let bad: readonly CropRef[] = [];
  before(async () => {
    const whole = await readFile(crops[0].path);
    const truncated = join(root, "truncated.png");
    await writeFile(truncated, whole.subarray(0, whole.length / 2));
    const text = join(root, "text.jpg");
    await writeFile(text, "not an image");
    const empty = join(root, "empty.jpg");
    await writeFile(empty, "");
    const bomb = join(root, "bomb.png");
    const header = Buffer.from(whole);
    header.writeUInt32BE(50_000, 16);
    header.writeUInt32BE(50_000, 20);
    await writeFile(bomb, header);
    bad = [truncated, text, empty, bomb].map((path) => ({
      path,
      identity: 1,
      cameraId: 1,
    }));
  });

  test("names the file that is truncated, no image, empty, or says 50,000 x 50,000 pixels", async () => {
    for (const crop of bad)
      await withLoader({}, (loader) =>
        assert.rejects(openDomain(loader, [...crops, crop], undefined), {
          code: "DATASET_LAYOUT",
          message: new RegExp(crop.path.replaceAll(".", "\\.")),
        }),
      );
  });

  test("leaves such files out and lists them when told to skip", async () => {
    const skipped: SkippedFile[] = [];
    const domain = await withLoader({}, (loader) =>
      openDomain(loader, [...bad, ...crops], skipped),
    );
    assert.deepEqual(
      skipped.map(({ path }) => path),
      bad.map(({ path }) => path),
    );
    assert.equal(domain.set.count, crops.length);
  });

  test("relabels identities in ascending order", async () => {
    const domain = await withLoader({}, (loader) =>
      openDomain(loader, [...crops].reverse(), undefined),
    );
    assert.equal(domain.classCount, 4);
    assert.equal(domain.classes[0], 3);
    assert.equal(domain.classes.at(-1), 0);
  });
});

describe("batchesOf", () => {
  test("cuts all crops into batches, the last one shorter", () => {
    const lengths = [...batchesOf(10, 4)].map((list) => list.length);
    assert.deepEqual(lengths, [4, 4, 2]);
    assert.deepEqual([...batchesOf(0, 4)], []);
  });
});
