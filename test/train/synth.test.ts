import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ConfigError } from "#core/errors";
import {
  renderDomain,
  sheetCrops,
  writeContactSheet,
  type RenderOptions,
} from "#train/synth";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "reid-synth-"));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const small = {
  domain: "target",
  identities: 3,
  testIdentities: 2,
  cameras: 2,
  cropsPerIdentity: 4,
  testCropsPerIdentity: 6,
  seed: 7,
} as const satisfies Omit<RenderOptions, "out">;

/** Every crop's path and digest, in byte order. */
async function digests(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.name.endsWith(".jpg"));
  const lines = await Promise.all(
    files.map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      const digest = createHash("sha256").update(await readFile(path));
      return `${path.slice(root.length)} ${digest.digest("hex")}`;
    }),
  );
  return lines.sort();
}

describe("renderDomain", () => {
  test("gives the same bytes for the same seed, whatever the number of threads", async () => {
    const one = join(folder, "one");
    const three = join(folder, "three");
    await renderDomain({ ...small, out: one, threads: 1 });
    await renderDomain({ ...small, out: three, threads: 3 });
    assert.deepEqual(await digests(one), await digests(three));
  });

  test("gives other crops for another seed, and for the other domain", async () => {
    const first = join(folder, "seed-7");
    await renderDomain({ ...small, out: first });
    const expected = await digests(first);
    for (const [name, change] of [
      ["seed-8", { seed: 8 }],
      ["source", { domain: "source" }],
    ] as const) {
      const other = join(folder, name);
      await renderDomain({ ...small, ...change, out: other });
      const received = new Set(await digests(other));
      assert.equal(
        expected.filter((line) => received.has(line)).length,
        0,
        name,
      );
    }
  });

  test("lays the crops out as Market-1501 does, with a query for each test identity and camera", async () => {
    const out = join(folder, "layout");
    const summary = await renderDomain({ ...small, out });
    assert.deepEqual(summary, { folder: out, train: 12, query: 4, gallery: 8 });
    const namesOf = (name: string) => readdir(join(out, name));
    const train = await namesOf("bounding_box_train");
    const query = await namesOf("query");
    const gallery = await namesOf("bounding_box_test");
    assert.deepEqual([train.length, query.length, gallery.length], [12, 4, 8]);
    for (const name of [...train, ...query, ...gallery])
      assert.match(name, /^\d{4}_c[12]s1_\d{6}_00\.jpg$/);
    const identities = (names: string[]) =>
      [...new Set(names.map((name) => name.slice(0, 4)))].sort();
    assert.deepEqual(identities(train), ["0001", "0002", "0003"]);
    assert.deepEqual(identities(query), ["0004", "0005"]);
    assert.deepEqual(identities(gallery), ["0004", "0005"]);
    const pairs = new Set(query.map((name) => name.slice(0, 7)));
    assert.equal(pairs.size, 4);
  });

  test("reports every crop once", async () => {
    let last = [0, 0];
    await renderDomain({
      ...small,
      out: join(folder, "progress"),
      onProgress: (done, total) => {
        last = [done, total];
      },
    });
    assert.deepEqual(last, [24, 24]);
  });

  test("refuses a folder that holds something, and leaves it alone", async () => {
    const out = join(folder, "full");
    await renderDomain({ ...small, out });
    await writeFile(join(out, "mine.txt"), "keep");
    await assert.rejects(renderDomain({ ...small, out }), ConfigError);
    assert.equal(await readFile(join(out, "mine.txt"), "utf8"), "keep");
  });

  test("refuses numbers out of range, and names the one", async () => {
    for (const change of [
      { cameras: 10 },
      { cropsPerIdentity: 0 },
      { seed: 1.5 },
      { identities: 0, testIdentities: 0 },
    ])
      await assert.rejects(
        renderDomain({ ...small, ...change, out: join(folder, "never") }),
        (error) =>
          error instanceof ConfigError &&
          error.message.includes(Object.keys(change)[0]),
      );
  });

  test("leaves nothing behind when it is stopped", async () => {
    const parent = await mkdtemp(join(folder, "stopped-"));
    const abort = new AbortController();
    await assert.rejects(
      renderDomain({
        ...small,
        identities: 200,
        out: join(parent, "data"),
        signal: abort.signal,
        onProgress: () => abort.abort(),
      }),
      { name: "AbortError" },
    );
    assert.deepEqual(await readdir(parent), []);
  });
});

describe("writeContactSheet", () => {
  test("writes a PNG with one identity a row", async () => {
    const out = join(folder, "sheet");
    await renderDomain({ ...small, out });
    const crops = await sheetCrops(out, 2, 4);
    assert.equal(crops.length, 8);
    const file = join(folder, "sheet.png");
    await writeContactSheet(file, crops, { columns: 4 });
    const bytes = await readFile(file);
    assert.deepEqual([...bytes.subarray(1, 4)], [...Buffer.from("PNG")]);
    // Width and height stand in the header, bytes 16 to 24.
    assert.equal(bytes.readUInt32BE(16), 4 * 67 + 3);
    assert.equal(bytes.readUInt32BE(20), 2 * 131 + 3);
  });
});
