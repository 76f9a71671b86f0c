import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { evaluateHits, type LabelledCrop } from "#cli/retrieval";
import { encodePng } from "#core/image";
import { randomStream } from "#core/random";
import { reid } from "../support/reid-command.js";
import {
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

interface Judged {
  readonly mAP: number;
  readonly queries: number;
  readonly skippedQueries: number;
  readonly k: number;
  readonly gallery: number;
}

/** Entries a call of `Enroll`. */
const SHARE = 250;

describe("reid search --data", () => {
  let wire: WireServer;
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "search-"));
    await writeMarket(folder);
    wire = await startWireServer();
    const { code, stderr } = await reid(
      ...["enroll", folder, "--gallery", "door", "--create"],
      ...["--index", "flat", "--address", wire.address],
    );
    assert.equal(code, 0, stderr);
  });
  after(async () => {
    await wire.close();
    await rm(folder, { recursive: true });
  });

  const judge = async (...flags: readonly string[]) => {
    const { code, stdout, stderr } = await reid(
      ...["search", "--gallery", "door", "--data", folder, "--json"],
      ...["--address", wire.address, ...flags],
    );
    assert.equal(code, 0, stderr);
    return { judged: JSON.parse(stdout) as Judged, said: stderr };
  };
  const bound = /only the nearest (\d+) of (\d+) entries are judged: mAP is/;

  test("judges the whole gallery where it can, and says nothing of a bound", async () => {
    const { judged, said } = await judge();
    const { queries, skippedQueries, k, gallery } = judged;
    assert.deepEqual(
      { queries, skippedQueries, k, gallery },
      { queries: 3, skippedQueries: 0, k: 9, gallery: 9 },
    );
    assert.doesNotMatch(said, bound);
  });

  test("says that mAP is a lower bound where k is smaller than the gallery, and it is", async () => {
    const whole = await judge();
    let before = 0;
    for (const k of [1, 3, 6]) {
      const { judged, said } = await judge("-k", String(k));
      assert.deepEqual(bound.exec(said)?.slice(1), [String(k), "9"]);
      assert.deepEqual([judged.k, judged.skippedQueries], [k, 0]);
      assert.ok(judged.mAP >= before && judged.mAP <= whole.judged.mAP);
      before = judged.mAP;
    }
    assert.ok(before > 0);
  });

  test("asks for the nearest 10000 of a gallery that is larger, and says so", async () => {
    for (let start = 0; start < 10_000; start += SHARE)
      await wire.client.GalleryService.Enroll({
        gallery: "door",
        enrollments: Array.from({ length: SHARE }, (_, i) => ({
          feature: unitFeature(start + i),
          entry: { entryId: `passer-${start + i}` },
        })),
      });
    const { judged, said } = await judge();
    assert.deepEqual(bound.exec(said)?.slice(1), ["10000", "10009"]);
    assert.deepEqual([judged.k, judged.gallery], [10_000, 10_009]);
  });
});

describe("evaluateHits", () => {
  const query: LabelledCrop = { path: "q", identity: "7", cameraId: "1" };
  const hit = (identity: string, similarity: number) => ({
    entryId: `${identity}-${similarity}`,
    identity,
    cameraId: "2",
    similarity,
  });
  const answers = [
    { query, hits: [hit("7", 0.9), hit("8", 0.8)], error: undefined },
    { query, hits: [hit("8", 0.9)], error: undefined },
  ];

  test("counts a correct entry that was not found as never found", () => {
    const { mAP, cmc, skippedQueries } = evaluateHits(answers, () => 4);
    assert.deepEqual([mAP, cmc["1"], skippedQueries], [1 / 8, 1 / 2, 0]);
  });

  test("skips a query without a correct entry among hits that are all there is", () => {
    const { mAP, skippedQueries } = evaluateHits(answers);
    assert.deepEqual([mAP, skippedQueries], [1, 1]);
  });
});

/** Three identities, each a query under camera 1 and three entries under cameras 1 to 3; pixels are noise. */
async function writeMarket(folder: string): Promise<void> {
  const splits = {
    bounding_box_train: [1],
    query: [1],
    bounding_box_test: [1, 2, 3],
  };
  for (const [split, cameras] of Object.entries(splits)) {
    await mkdir(join(folder, split));
    for (const identity of [1, 2, 3])
      for (const camera of cameras) {
        const name = `000${identity}_c${camera}s1_000001_00.jpg`;
        const random = randomStream(identity, `${split} ${camera}`);
        const data = Uint8Array.from({ length: 16 * 8 * 3 }, () =>
          random.below(256),
        );
        // The format is told by the bytes, not by the name.
        const crop = await encodePng({ data, heightPx: 16, widthPx: 8 });
        await writeFile(join(folder, split, name), crop);
      }
  }
}
