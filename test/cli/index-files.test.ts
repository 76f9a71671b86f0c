import assert from "node:assert/strict";
import {
  appendFile,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Store } from "#core/store";
import { bytesFromFeature, galleryTables } from "#index/gallery-records";
import { flipWhere } from "../support/damage.js";
import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import { reid } from "../support/reid-command.js";

const dimension = 16;
const model = { name: "external", version: 1 };

/** What an imported gallery has of the exported one. */
const facts = [
  ...(["model", "modelPolicy", "dimension", "index", "cropRetention"] as const),
  ...(["defaultTtlMs", "maxEntries", "tags"] as const),
] as const;

/** A data folder with `count` entries in "door", every field of an entry set in some of them. */
async function fill(data: string, count = 60): Promise<void> {
  const open = await openGalleries(data);
  const door = await open.galleries.create({
    name: "door",
    model,
    dimension,
    index: { kind: "ivf", lists: 4, probes: 2 },
    modelPolicy: "follow-active",
    cropRetention: "keep",
    defaultTtlMs: 4e12,
    maxEntries: 5000,
    tags: { floor: "2" },
  });
  await door.enroll(
    Array.from({ length: count }, (_, i) => ({
      entryId: `e${i}`,
      identity: i % 3 === 0 ? "" : `p${i % 3}`,
      cameraId: `c${i % 2}`,
      ...(i % 2 === 0
        ? {
            trackId: `t${i}`,
            capturedAtUs: 1e15 + i,
            attributes: { hall: "ä" },
          }
        : { expiresAtUs: 4e15 + i }),
      feature: featureNamed(`e${i}`, dimension),
    })),
  );
  await open.close();
}

/** Runs `reid index …`; gives its exit code and what `--json` printed. */
async function run(...args: string[]) {
  const { code, stdout, stderr } = await reid("index", ...args, "--json");
  assert.match(stdout, /^[^\n]+\n$/, stderr);
  return {
    code,
    said: stderr,
    printed: JSON.parse(stdout) as Record<string, unknown> & {
      readonly error?: { readonly code: string };
    },
  };
}

/** Every entry with its feature, less what an import gives anew. */
async function entriesOf(data: string, name: string) {
  const open = await openGalleries(data);
  const gallery = await open.galleries.get(name);
  const { entries } = await gallery.listEntries({
    pageSize: 2000,
    view: "feature",
  });
  const facts = gallery.describe();
  await open.close();
  return {
    facts,
    entries: entries.map(
      ({ enrolledAtUs: _at, sequence: _s, ...entry }) => entry,
    ),
  };
}

/** Changes what the store holds as the feature of entry e1. */
async function harm(data: string, feature: Uint8Array): Promise<void> {
  const store = await Store.open(data, { minFreeBytes: 0 });
  const tables = galleryTables(store);
  const number = tables.galleries.get("door")?.number ?? 0;
  await store.write((writer) =>
    writer.put(tables.features, [number, 2], feature),
  );
  await store.close();
}

describe("reid index export and import", () => {
  for (const [format, name] of [
    ["npy", "out"],
    ["parquet", "out.parquet"],
  ] as const)
    test(`give every field and every feature back through ${format}`, () =>
      inFolder(async (folder) => {
        const [data, other, out] = ["data", "other", name].map((one) =>
          join(folder, one),
        );
        await fill(data, 1100);
        const from = ["--data", data, "--gallery", "door", "--out", out];
        const exported = await run("export", ...from, "--format", format);
        assert.deepEqual(exported.printed, {
          gallery: "door",
          entries: 1100,
          format,
          path: out,
        });
        await (await Store.open(other)).close();
        const imported = await run(
          ...["import", "--data", other, "--from", out, "--gallery", "copy"],
        );
        assert.equal(imported.code, 0, imported.said);
        assert.deepEqual(imported.printed, { gallery: "copy", entries: 1100 });
        const before = await entriesOf(data, "door");
        const after = await entriesOf(other, "copy");
        assert.deepEqual(after.entries, before.entries);
        for (const fact of facts)
          assert.deepEqual(after.facts[fact], before.facts[fact], fact);
        const again = await run("export", ...from, "--format", format);
        assert.equal(again.printed.error?.code, "CONFIG_INVALID");
      }));

  test("write features that numpy reads", () =>
    inFolder(async (folder) => {
      const [data, out] = [join(folder, "data"), join(folder, "out")];
      await fill(data);
      await run("export", "--data", data, "--gallery", "door", "--out", out);
      const npy = await readFile(join(out, "features.npy"));
      assert.equal(npy.length, 128 + 4 * dimension * 60);
      assert.match(npy.toString("latin1", 10, 128), /'shape': \(60, 16\)/);
    }));

  for (const [what, code, change] of [
    [
      "a line too few",
      "EXPORT_FORMAT",
      async (out: string) => {
        const path = join(out, "entries.jsonl");
        const lines = (await readFile(path, "utf8")).split("\n");
        await writeFile(path, lines.slice(1).join("\n"));
      },
    ],
    [
      "a line that is no entry",
      "EXPORT_FORMAT",
      async (out: string) => {
        const path = join(out, "entries.jsonl");
        const [, ...lines] = (await readFile(path, "utf8")).split("\n");
        await writeFile(path, ["{}", ...lines].join("\n"));
      },
    ],
    [
      "an identity that is no text",
      "EXPORT_FORMAT",
      async (out: string) => {
        const path = join(out, "entries.jsonl");
        const lines = await readFile(path, "utf8");
        await writeFile(path, lines.replace('"p1"', "7"));
      },
    ],
    [
      "a row too few",
      "NPY_FORMAT",
      (out: string) =>
        appendFile(join(out, "entries.jsonl"), '{"entryId":"more"}\n'),
    ],
    [
      "numbers of another type",
      "NPY_FORMAT",
      async (out: string) => {
        const path = join(out, "features.npy");
        const bytes = await readFile(path);
        bytes.write("<f8", bytes.indexOf("<f4"));
        await writeFile(path, bytes);
      },
    ],
    [
      "no gallery.json of ours",
      "EXPORT_FORMAT",
      (out: string) => writeFile(join(out, "gallery.json"), "{}"),
    ],
    [
      "a kind of index that there is not",
      "EXPORT_FORMAT",
      async (out: string) => {
        const path = join(out, "gallery.json");
        const text = await readFile(path, "utf8");
        await writeFile(path, text.replace('"kind":"ivf"', '"kind":"tree"'));
      },
    ],
  ] as const)
    test(`refuse a folder with ${what}, and change nothing`, () =>
      inFolder(async (folder) => {
        const [data, out] = [join(folder, "data"), join(folder, "out")];
        await fill(data);
        await run("export", "--data", data, "--gallery", "door", "--out", out);
        await change(out);
        const { printed } = await run(
          ...["import", "--data", data, "--from", out, "--gallery", "copy"],
        );
        assert.equal(printed.error?.code, code);
        const { printed: described } = await run("describe", "--data", data);
        assert.equal((described["galleries"] as unknown[]).length, 1);
      }));
});

describe("reid index backup and restore", () => {
  test("bring a whole folder back, and one gallery beside what is there", () =>
    inFolder(async (folder) => {
      const [data, other, backups] = ["data", "other", "backups"].map((name) =>
        join(folder, name),
      );
      await fill(data);
      const models = join(folder, "models");
      const made = await run(
        ...["backup", "--data", data, "--out", backups, "--models", models],
      );
      assert.equal(made.code, 0, made.said);
      const id = String(made.printed["backupId"]);
      assert.deepEqual(await readdir(backups), [id]);
      const from = ["--id", id, "--from", backups, "--models", models];
      const whole = await run("restore", "--data", other, ...from);
      assert.equal(whole.code, 0, whole.said);
      assert.deepEqual(whole.printed["galleries"], ["door"]);
      assert.deepEqual(
        (await entriesOf(other, "door")).entries,
        (await entriesOf(data, "door")).entries,
      );
      const beside = await run(
        ...["restore", "--data", data, "--gallery", "door=twin", ...from],
      );
      assert.deepEqual(beside.printed["galleries"], ["twin"]);
      assert.equal((await entriesOf(data, "twin")).entries.length, 60);
      assert.deepEqual((await readdir(data)).sort(), [
        ...["lock", "snapshots", "store"],
      ]);
      await appendFile(join(backups, id, "store", "data.mdb"), "x");
      const damaged = await run("restore", "--data", data, ...from);
      assert.equal(damaged.printed.error?.code, "BACKUP_CORRUPT");
      assert.equal((await run("check", "--data", data)).code, 0);
    }));
});

describe("reid index repair", () => {
  test("drops entries without a whole feature when it is told to, and is content then", () =>
    inFolder(async (data) => {
      await fill(data);
      await harm(data, Uint8Array.of(1, 2, 3));
      const kept = await run("repair", "--data", data);
      assert.equal(kept.printed.error?.code, "INDEX_PROBLEMS");
      const { code, said } = await run(
        "repair",
        "--data",
        data,
        "--drop-broken",
      );
      assert.equal(code, 0, said);
      assert.match(said, /door: 1 entries dropped/);
      assert.equal((await entriesOf(data, "door")).entries.length, 59);
    }));

  test("names entries of which a byte has rotted, and drops them when it is told to", () =>
    inFolder(async (data) => {
      await fill(data);
      const crops = ["the crop of e5", "the crop of e6"];
      const open = await openGalleries(data);
      const door = await open.galleries.get("door");
      for (const [i, crop] of crops.entries())
        await door.enroll([
          {
            entryId: `e${5 + i}`,
            feature: featureNamed(`e${5 + i}`, dimension),
            crop: Buffer.from(crop),
          },
        ]);
      await open.close();
      const file = join(data, "store", "data.mdb");
      await flipWhere(file, bytesFromFeature(featureNamed("e1", dimension)));
      await flipWhere(file, Buffer.from(crops[1]));
      // Without its snapshot the index is built of what is sound.
      await rm(join(data, "snapshots"), { recursive: true });
      const found = await run("check", "--data", data);
      assert.equal(found.code, 1);
      const [{ problems }] = found.printed["galleries"] as [
        { readonly problems: readonly string[] },
      ];
      assert.deepEqual(problems, [
        'entry "e1" is not in the index',
        'entry "e1" has a damaged feature',
        'entry "e6" has a damaged crop',
      ]);
      const { code, said } = await run(
        ...["repair", "--data", data, "--drop-broken"],
      );
      assert.equal(code, 0, said);
      assert.match(said, /door: 2 entries dropped/);
      const { entries } = await entriesOf(data, "door");
      assert.equal(entries.length, 58);
      assert.ok(entries.every(({ entryId }) => !/^e[16]$/.test(entryId)));
    }));

  test("builds an index anew that does not agree with the store", () =>
    inFolder(async (data) => {
      await fill(data);
      // A feature that another hand has changed: the snapshot still has the old one.
      await harm(data, bytesFromFeature(featureNamed("other", dimension)));
      assert.equal((await run("check", "--data", data)).code, 1);
      assert.equal((await run("repair", "--data", data)).code, 0);
      assert.equal((await run("check", "--data", data)).code, 0);
    }));
});

describe("reid index compact", () => {
  test("makes the store's file smaller by what was removed", () =>
    inFolder(async (data) => {
      await fill(data, 2000);
      const open = await openGalleries(data);
      const door = await open.galleries.get("door");
      await door.deleteEntries({ filter: { cameraIn: ["c1"] } });
      await open.close();
      const path = join(data, "store", "data.mdb");
      const { size } = await stat(path);
      const { printed } = await run("compact", "--data", data);
      assert.equal(printed["beforeBytes"], size);
      assert.equal(printed["afterBytes"], (await stat(path)).size);
      assert.ok(Number(printed["afterBytes"]) < 0.8 * size);
      assert.equal((await run("check", "--data", data)).code, 0);
    }));
});

describe("reid index advise", () => {
  test("tries every kind on the gallery's own features, the exact one as the truth", () =>
    inFolder(async (data) => {
      await fill(data, 400);
      const { code, printed, said } = await run(
        ...["advise", "--data", data, "--gallery", "door", "--sample", "300"],
      );
      assert.equal(code, 0, said);
      assert.deepEqual([printed["entries"], printed["queries"]], [240, 60]);
      const tried = printed["tried"] as readonly {
        readonly spec: { readonly kind: string };
        readonly recallAt10: number;
        readonly queriesPerSecond: number;
      }[];
      assert.deepEqual(
        [...new Set(tried.map(({ spec }) => spec.kind))],
        ["flat", "hnsw"],
      );
      assert.equal(tried[0].recallAt10, 1);
      assert.ok(tried.every(({ queriesPerSecond }) => queriesPerSecond > 0));
      assert.match(said, /^recommended: (flat|hnsw)/m);
    }));

  test("refuses a gallery that is too small to say anything", () =>
    inFolder(async (data) => {
      await fill(data, 10);
      const { code } = await reid(
        ...["index", "advise", "--data", data, "--gallery", "door"],
      );
      assert.equal(code, 2);
    }));
});
