import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodePng } from "#core/image";
import { randomStream } from "#core/random";
import { npyFile } from "../support/npy.js";
import { reid } from "../support/reid-command.js";
import {
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "identify-"));
  for (const name of ["a", "b", "c"]) {
    const random = randomStream(1, name);
    const data = Uint8Array.from({ length: 16 * 8 * 3 }, () =>
      random.below(256),
    );
    const crop = await encodePng({ data, heightPx: 16, widthPx: 8 });
    await writeFile(join(folder, `${name}.png`), crop);
  }
  const rows = Array.from({ length: 300 }, (_, i) => unitFeature(i).f32le);
  rows[7] = Buffer.alloc(48);
  const matrix = npyFile("<f4", [300, 12], Buffer.concat(rows));
  await writeFile(join(folder, "features.npy"), matrix);
  wire = await startWireServer();
  await wire.client.GalleryService.CreateGallery({
    gallery: { name: "door", index: { flat: {} } },
  });
});
after(async () => {
  await wire.close();
  await rm(folder, { recursive: true });
});

const run = async (...args: readonly string[]) => {
  const { code, stdout, stderr } = await reid(
    ...args,
    ...["--address", wire.address, "--json"],
  );
  const printed: unknown = JSON.parse(stdout);
  return { code, printed, said: stderr };
};
const crop = (name: string) => join(folder, `${name}.png`);

describe("reid identify", () => {
  interface Printed {
    readonly results: readonly {
      readonly decision: string;
      readonly identity: string;
      readonly confidence: number;
      readonly entryId?: string;
      readonly candidates: readonly { readonly identity: string }[];
    }[];
  }
  const identify = async (...args: readonly string[]) => {
    const all = ["identify", "--gallery", "door", ...args];
    const { code, printed, said } = await run(...all);
    assert.equal(code, 0, said);
    return { results: (printed as Printed).results, said };
  };

  test("enrols newcomers where it is told to, and knows them afterwards", async () => {
    const strict = ["--min-similarity", "0.9999"];
    const unknown = await identify(crop("a"), ...strict);
    assert.equal(unknown.results[0].decision, "new");
    assert.equal(unknown.results[0].entryId, undefined);
    assert.match(unknown.said, /a\.png: new, confidence 1\.0000\n/);
    const twice = await identify(
      crop("a"),
      crop("b"),
      crop("a"),
      ...strict,
      ...["--enroll", "new"],
    );
    const [first, other, again] = twice.results;
    assert.deepEqual(
      twice.results.map(({ decision }) => decision),
      ["new", "new", "known"],
    );
    assert.notEqual(first.identity, other.identity);
    assert.equal(again.identity, first.identity);
    assert.match(twice.said, /a\.png: new new-\w+, .*; enrolled as \w+\n/);
  });

  test("takes θ, margin and candidates", async () => {
    const { results } = await identify(
      crop("a"),
      ...["--min-similarity=-1", "--min-margin", "2", "--candidates", "1"],
    );
    assert.equal(results[0].decision, "ambiguous");
    assert.equal(results[0].candidates.length, 1);
  });

  test("exits 2 where a flag is out of range", async () => {
    for (const [flag, value] of [
      ["--enroll", "always"],
      ["--min-similarity", "1.5"],
      ["--min-margin", "3"],
      ["--candidates", "101"],
    ]) {
      const args = ["--gallery", "door", flag, value, crop("a")];
      assert.equal((await reid("identify", ...args)).code, 2, flag);
    }
  });

  test("fails where there is no such gallery", async () => {
    const { code, printed } = await run(
      "identify",
      ...["--gallery", "nowhere", crop("a")],
    );
    assert.equal(code, 1);
    const { error } = printed as { error: { code: string } };
    assert.equal(error.code, "GALLERY_NOT_FOUND");
  });
});

describe("reid enroll FILE.npy", () => {
  interface Printed {
    readonly enrolled: number;
    readonly failed: readonly {
      readonly path: string;
      readonly reason: string;
    }[];
    readonly sequence: string;
    readonly entriesPerSecond: number;
    readonly error?: { readonly code: string };
  }
  const enroll = async (...args: readonly string[]) => {
    const file = join(folder, "features.npy");
    const { code, printed, said } = await run("enroll", file, ...args);
    return { code, said, printed: printed as Printed };
  };

  test("makes a gallery of features made elsewhere, and enrols each row under its number", async () => {
    const { code, said, printed } = await enroll(
      ...["--gallery", "made", "--create", "--index", "flat"],
      ...["--camera", "7"],
    );
    assert.equal(code, 0, said);
    assert.equal(printed.enrolled, 299);
    assert.deepEqual(
      printed.failed.map(({ path, reason }) => [path, reason]),
      [["features/7", "FEATURE_NOT_UNIT"]],
    );
    assert.equal(printed.sequence, "299");
    assert.ok(printed.entriesPerSecond > 0);
    assert.match(
      said,
      /299 of 300 features enrolled into made at \d+ a second/,
    );
    const { gallery } = await wire.client.GalleryService.GetGallery({
      gallery: "made",
    });
    assert.deepEqual({ ...gallery?.model }, { name: "external", version: 1 });
    const { entry } = await wire.client.GalleryService.GetEntry({
      gallery: "made",
      entryId: "features/299",
      view: "ENTRY_VIEW_FEATURE",
    });
    assert.equal(entry?.cameraId, "7");
    assert.equal(entry?.feature?.f32le.length, 48);
  });

  test("enrols into a gallery of a model, and refuses what is said to be of another", async () => {
    const into = ["--gallery", "door"];
    assert.equal((await enroll(...into)).printed.enrolled, 299);
    const { code, printed } = await enroll(...into, "--model", "door/2");
    assert.equal(code, 1);
    assert.equal(printed.error?.code, "CROPS_REFUSED");
    assert.equal(printed.failed.length, 300);
  });

  test("exits 2 with crops beside it, and with --model for crops", async () => {
    const file = join(folder, "features.npy");
    for (const args of [
      [file, crop("a")],
      [crop("a"), "--model", "door/1"],
      [file, "--model", "door/x"],
    ])
      assert.equal((await reid("enroll", "--gallery", "g", ...args)).code, 2);
  });

  test("fails where no such gallery is there", async () => {
    const { code, printed } = await enroll("--gallery", "nowhere");
    assert.equal(code, 1);
    assert.equal(printed.error?.code, "GALLERY_NOT_FOUND");
  });
});

describe("reid search", () => {
  interface Hit {
    readonly identity: string;
    readonly similarity: number;
    readonly rerankDistance?: number;
  }
  before(async () => {
    await wire.client.GalleryService.CreateGallery({
      gallery: { name: "three", index: { flat: {} } },
    });
    await wire.client.GalleryService.Enroll({
      gallery: "three",
      enrollments: Array.from({ length: 9 }, (_, i) => ({
        feature: unitFeature(i),
        entry: { identity: `p${i % 3}` },
      })),
    });
  });

  const hitsOf = async (...args: readonly string[]) => {
    const all = ["search", "--gallery", "three", crop("a"), ...args];
    const { code, printed, said } = await run(...all);
    assert.equal(code, 0, said);
    const { results } = printed as {
      results: readonly { readonly hits: readonly Hit[] }[];
    };
    return { hits: results[0].hits, said };
  };

  test("--group counts identities in -k, and lists them one after another", async () => {
    const { hits } = await hitsOf("-k", "2", "--group", "2");
    assert.equal(hits.length, 4);
    assert.equal(new Set(hits.map(({ identity }) => identity)).size, 2);
    assert.equal(hits[0].identity, hits[1].identity);
  });

  test("--rerank orders by rising re-ranked distance, and shows it", async () => {
    const { hits, said } = await hitsOf("--rerank");
    const distances = hits.map(({ rerankDistance }) => rerankDistance ?? NaN);
    assert.equal(distances.length, 9);
    assert.deepEqual(
      distances,
      [...distances].sort((a, b) => a - b),
    );
    assert.match(said, /similarity +re-ranked/);
  });

  test("exits 2 with --group beside --data, and beyond the ranges", async () => {
    for (const args of [
      ["--data", folder, "--group", "1"],
      ["--group", "101", crop("a")],
      ["--rerank", "-k", "1001", crop("a")],
    ])
      assert.equal((await reid("search", "--gallery", "g", ...args)).code, 2);
  });
});
