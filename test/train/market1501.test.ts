import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readMarket1501 } from "../../src/train/data/market1501.js";
import type { ReadOptions } from "../../src/train/data/data-set.js";

const trainOnly: ReadOptions = { skipBad: false, splits: ["train"] };

describe("readMarket1501", () => {
  let root = "";
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "market1501-"));
  });
  after(() => rm(root, { recursive: true }));

  /** Makes a data set whose training folder holds empty files of these names. */
  async function layout(
    name: string,
    files: readonly string[],
  ): Promise<string> {
    const folder = join(root, name);
    await mkdir(join(folder, "bounding_box_train"), { recursive: true });
    for (const file of files)
      await writeFile(join(folder, "bounding_box_train", file), "");
    return folder;
  }

  test("lists crops in the byte order of their paths, junk left out, distractors kept", async () => {
    const folder = await layout("plain", [
      "0010_c6s1_000001_00.jpg",
      "0002_c1s1_000451_03.jpg",
      "-1_c3s1_000001_00.jpg",
      "0000_c2s1_000001_00.jpg",
      "Thumbs.db",
    ]);
    const { train, query } = await readMarket1501(folder, trainOnly);
    assert.deepEqual(
      train.map(({ path, identity, cameraId }) => [
        basename(path),
        identity,
        cameraId,
      ]),
      [
        ["0000_c2s1_000001_00.jpg", 0, 2],
        ["0002_c1s1_000451_03.jpg", 2, 1],
        ["0010_c6s1_000001_00.jpg", 10, 6],
      ],
    );
    assert.deepEqual(query, []);
  });

  const refusals: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["empty", [], /bounding_box_train is empty/],
    ["junk", ["-1_c1s1_000001_00.jpg"], /without a usable crop \(1 junk/],
    ["unnamed", ["person.jpg"], /person\.jpg is named otherwise/],
    ["camera", ["0001_c7s1_000001_00.jpg"], /c7s1.* of camera 7.* 1 to 6/],
    ["camera0", ["0001_c0s1_000001_00.jpg"], /of camera 0/],
    ["twelve", ["0001_c12s1_000001_00.jpg"], /of camera 12/],
    ["bitmap", ["0001_c1s1_000001_00.bmp"], /ending in "\.bmp"/],
    ["dukemtmc-reid", ["0001_c1_f0046182.jpg"], /DukeMTMC.*retracted/],
    ["renamed", ["0001_c1_f0046182.jpg"], /DukeMTMC.*retracted/],
  ];
  for (const [name, files, message] of refusals)
    test(`refuses the folder "${name}" and names what is wrong`, async () => {
      const folder = await layout(name, files);
      await assert.rejects(readMarket1501(folder, trainOnly), {
        code: "DATASET_LAYOUT",
        message,
      });
    });

  test("names the folder that is missing", async () => {
    const folder = await layout("halved", ["0001_c1s1_000001_00.jpg"]);
    await assert.rejects(
      readMarket1501(folder, { skipBad: true, splits: ["query"] }),
      { code: "DATASET_LAYOUT", message: /query is missing/ },
    );
  });

  test("counts and lists what does not fit when told to skip it", async () => {
    const folder = await layout("mixed", [
      "0001_c1s1_000001_00.jpg",
      "0001_c9s1_000001_00.jpg",
      "notes.jpg",
    ]);
    const { train, skipped } = await readMarket1501(folder, {
      skipBad: true,
      splits: ["train"],
    });
    assert.equal(train.length, 1);
    assert.deepEqual(
      skipped.map(({ path }) => basename(path)),
      ["0001_c9s1_000001_00.jpg", "notes.jpg"],
    );
  });

  test("takes more cameras where layout.json says so", async () => {
    const folder = await layout("wide", ["0001_c8s1_000001_00.jpg"]);
    await writeFile(join(folder, "layout.json"), '{"cameras": 8}');
    const { train } = await readMarket1501(folder, trainOnly);
    assert.equal(train[0].cameraId, 8);
    await writeFile(join(folder, "layout.json"), '{"cameras": "all"}');
    await assert.rejects(readMarket1501(folder, trainOnly), {
      code: "DATASET_LAYOUT",
      message: /layout\.json/,
    });
  });
});
