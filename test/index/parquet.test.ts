import assert from "node:assert/strict";
import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parquetReadObjects, type SchemaElement } from "hyparquet";
import { autoSchemaElement, parquetWriteBuffer } from "hyparquet-writer";
import type { ReidError } from "#core/errors";
import type { Gallery } from "#index/gallery";
import {
  exportGallery,
  importEntries,
  openExport,
  type ExportOptions,
} from "#index/gallery-export";
import type { Enrollment, GallerySpec } from "#index/gallery-types";
import {
  featureNamed,
  inFolder,
  openGalleries,
  type OpenGalleries,
} from "../support/galleries.js";

const dimension = 8;
const model = { name: "external", version: 1 };
const quiet: ExportOptions = {
  signal: new AbortController().signal,
  report: () => undefined,
};

/** Entries with every field, and with none but the needed. */
const enrollments: readonly Enrollment[] = [
  {
    entryId: "\ufeffä/1",
    identity: "p1",
    cameraId: "c1",
    trackId: "t1",
    capturedAtUs: 1_700_000_000_123_457,
    expiresAtUs: 4_000_000_000_000_001,
    attributes: { colour: "röt", empty: "" },
    crop: Uint8Array.of(0xff, 0, 0xfe, 7),
    feature: featureNamed("1", dimension),
  },
  { entryId: "2", feature: featureNamed("2", dimension) },
];

/** Runs an action on galleries of a folder of its own, with one of the entries above in it. */
function withGallery(
  action: (open: OpenGalleries, door: Gallery, path: string) => Promise<void>,
  spec: Partial<GallerySpec> = {},
): Promise<void> {
  return inFolder(async (folder) => {
    const galleries = await openGalleries(join(folder, "data"));
    const door = await galleries.galleries.create({
      name: "door",
      model,
      dimension,
      cropRetention: "keep",
      ...spec,
    });
    await door.enroll(enrollments);
    await action(galleries, door, join(folder, "door.parquet"));
    await galleries.close();
  });
}

const toParquet = (gallery: Gallery, path: string) =>
  exportGallery(gallery, { path, format: "parquet" }, quiet);

/** Imports into a gallery that is there, or one that is made. */
async function fromParquet(
  { galleries }: OpenGalleries,
  path: string,
  into: string,
): Promise<number> {
  const source = await openExport(path);
  const gallery = await galleries.get(into).catch(() => undefined);
  try {
    return await importEntries(
      source,
      {
        gallery,
        make: (spec) => galleries.create({ ...spec, name: into }),
      },
      quiet,
    );
  } finally {
    await source.close();
  }
}

/** Every entry with feature and crop, less what an import gives anew. */
async function entriesOf(gallery: Gallery) {
  const features = await gallery.listEntries({ pageSize: 9, view: "feature" });
  const crops = await gallery.listEntries({ pageSize: 9, view: "crop" });
  return features.entries.map(
    ({ enrolledAtUs: _at, sequence: _s, ...one }, i) => ({
      ...one,
      crop: crops.entries[i].crop,
    }),
  );
}

/** A Parquet file as Arrow writes it: everything may be missing, numbers of a list are float64 here. */
async function writeForeign(
  path: string,
  columns: Readonly<Record<string, readonly unknown[]>>,
): Promise<void> {
  const names = Object.entries(columns);
  const bytes = parquetWriteBuffer({
    schema: [
      { name: "schema", num_children: names.length },
      ...names.flatMap(([name, data]) =>
        Array.isArray(data[0])
          ? listOf(name)
          : [autoSchemaElement(name, [...data])],
      ),
    ],
    columnData: names.map(([name, data]) => ({ name, data: [...data] })),
  });
  await writeFile(path, new Uint8Array(bytes));
}

function listOf(name: string): SchemaElement[] {
  return [
    {
      name,
      repetition_type: "OPTIONAL",
      num_children: 1,
      converted_type: "LIST",
    },
    { name: "list", repetition_type: "REPEATED", num_children: 1 },
    { name: "element", repetition_type: "OPTIONAL", type: "DOUBLE" },
  ];
}

const ids = ["a", "b"];
const features = ids.map((id) => [...featureNamed(id, dimension)]);

describe("an export to Parquet", () => {
  test("comes back with every field, feature and crop, bit by bit", () =>
    withGallery(async (open, door, path) => {
      assert.equal(await toParquet(door, path), 2);
      assert.equal(await fromParquet(open, path, "copy"), 2);
      const copy = await open.galleries.get("copy");
      const entries = await entriesOf(copy);
      assert.deepEqual(entries, await entriesOf(door));
      assert.deepEqual(
        entries.map(({ crop }) => crop?.length),
        [4, undefined],
      );
    }));

  test("makes a gallery whose index follows its size where the exported one did", () =>
    withGallery(
      async (open, door, path) => {
        await toParquet(door, path);
        await fromParquet(open, path, "copy");
        const copy = await open.galleries.get("copy");
        assert.equal(copy.describe().autoIndex, true);
      },
      { index: "auto" },
    ));

  test("has columns and a feature list that other readers of Parquet see", () =>
    withGallery(async (_open, door, path) => {
      await toParquet(door, path);
      const bytes = await readFile(path);
      const file = bytes.buffer.slice(
        bytes.byteOffset,
        bytes.byteOffset + bytes.length,
      );
      const [first, second] = await parquetReadObjects({ file });
      assert.deepEqual(
        first["feature"],
        [...featureNamed("1", dimension)].map(Math.fround),
      );
      assert.deepEqual(first["attributes"], { colour: "röt", empty: "" });
      assert.deepEqual(first["captured_at"], new Date(1_700_000_000_123));
      assert.equal(second["identity"], null);
    }));

  test("of no entry makes a gallery without one", () =>
    withGallery(async (open, door, path) => {
      await door.deleteEntries({ entryIds: ["\ufeffä/1", "2"] });
      assert.equal(await toParquet(door, path), 0);
      assert.equal(await fromParquet(open, path, "copy"), 0);
      const copy = await open.galleries.get("copy");
      assert.equal(copy.describe().dimension, dimension);
    }));

  test("goes into as many row groups as keep a million numbers apart", () =>
    withGallery(
      async (open, _door, path) => {
        const wide = 4096;
        const big = await open.galleries.create({
          ...{ name: "big", model, dimension: wide, index: { kind: "flat" } },
        });
        const feature = featureNamed("wide", wide);
        await big.enroll(
          Array.from({ length: 300 }, (_, i) => ({
            ...{ entryId: `e${i}`, feature },
          })),
        );
        await toParquet(big, path);
        assert.equal(await fromParquet(open, path, "copy"), 300);
        const copy = await open.galleries.get("copy");
        const last = await copy.getEntry("e299", "feature");
        assert.deepEqual(last.feature, feature);
      },
      { index: { kind: "flat" } },
    ));
});

describe("an import from Parquet", () => {
  test("takes a file of another program into a gallery that is there", () =>
    withGallery(async (open, door, path) => {
      await writeForeign(path, {
        entry_id: ids,
        feature: features,
        identity: ["p1", null],
        captured_at: [new Date(1_000), new Date(2_000)],
        note: ["is", "ignored"],
      });
      assert.equal(await fromParquet(open, path, "door"), 2);
      const { identity, capturedAtUs } = await door.getEntry("a");
      assert.deepEqual([identity, capturedAtUs], ["p1", 1_000_000]);
      assert.equal((await door.getEntry("b")).identity, "");
    }));

  for (const [what, code, pattern, columns] of [
    [
      "no column of ids",
      "PARQUET_FORMAT",
      /no column "entry_id"/,
      { feature: features },
    ],
    [
      "no column of features",
      "PARQUET_FORMAT",
      /no column "feature"/,
      { entry_id: ids },
    ],
    [
      "features that are text",
      "PARQUET_FORMAT",
      /"feature" does not hold lists/,
      { entry_id: ids, feature: ["x", "y"] },
    ],
    [
      "ids that are numbers",
      "PARQUET_FORMAT",
      /"entry_id" does not hold text/,
      { entry_id: [1, 2], feature: features },
    ],
    [
      "features of another dimension",
      "FEATURE_DIMENSION",
      /8 numbers, this one has 7/,
      { entry_id: ids, feature: features.map((one) => one.slice(1)) },
    ],
    [
      "features of two dimensions",
      "PARQUET_FORMAT",
      /row 2: its feature has 7 numbers, expected 8/,
      { entry_id: ids, feature: [features[0], features[1].slice(1)] },
    ],
    [
      "a feature of another norm",
      "PARQUET_FORMAT",
      /row 2: its feature has norm 2/,
      { entry_id: ids, feature: [features[0], features[1].map((x) => 2 * x)] },
    ],
    [
      "a feature with NaN in it",
      "PARQUET_FORMAT",
      /row 1: its feature has norm NaN/,
      {
        entry_id: ids,
        feature: [features[0].with(3, NaN), features[1]],
      },
    ],
    [
      "an id that is too long",
      "PARQUET_FORMAT",
      /row 2: entryId has 129 bytes/,
      { entry_id: ["a", "x".repeat(129)], feature: features },
    ],
    [
      "an id that is missing",
      "PARQUET_FORMAT",
      /row 2: entryId is no text/,
      { entry_id: ["a", null], feature: features },
    ],
  ] as const)
    test(`refuses ${what}, and changes nothing`, () =>
      withGallery(async (open, door, path) => {
        await writeForeign(path, columns);
        const { sequence } = door.describe();
        await assert.rejects(fromParquet(open, path, "door"), (error) => {
          assert.equal((error as ReidError).code, code);
          assert.match((error as ReidError).message, pattern);
          return true;
        });
        assert.equal(door.describe().sequence, sequence);
      }));

  for (const [what, change, pattern] of [
    ["that is empty", (path: string) => truncate(path, 0), /begin with PAR1/],
    [
      "that is another format",
      (path: string) => writeFile(path, "entry_id,feature\n"),
      /begin with PAR1/,
    ],
    [
      "that is cut short",
      (path: string) => truncate(path, 900),
      /it is cut short/,
    ],
    [
      "in which a byte has flipped",
      async (path: string) => {
        const file = await open(path, "r+");
        const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 20);
        await file.write(Buffer.of(buffer[0] ^ 4), 0, 1, 20);
        await file.close();
      },
      /its bytes have sha256/,
    ],
    [
      "whose footer is broken",
      async (path: string) => {
        const bytes = await readFile(path);
        bytes.writeUInt32LE(bytes.length - 30, bytes.length - 8);
        await writeFile(path, bytes);
      },
      /no Parquet file of entries/,
    ],
  ] as const)
    test(`refuses a file ${what}, and makes no gallery`, () =>
      withGallery(async (open, door, path) => {
        await toParquet(door, path);
        await change(path);
        await assert.rejects(fromParquet(open, path, "copy"), (error) => {
          assert.equal((error as ReidError).code, "PARQUET_FORMAT");
          assert.match((error as ReidError).message, pattern);
          return true;
        });
        assert.deepEqual(
          open.galleries.known().map(({ name }) => name),
          ["door"],
        );
      }));

  test("refuses features of another encoder", () =>
    withGallery(async (open, door, path) => {
      await toParquet(door, path);
      await open.galleries.create({
        ...{ name: "other", dimension },
        model: { name: "external", version: 2 },
      });
      await assert.rejects(fromParquet(open, path, "other"), {
        code: "MODEL_MISMATCH",
      });
    }));

  test("refuses to guess what gallery a file without one is of", () =>
    withGallery(async (open, _door, path) => {
      await writeForeign(path, { entry_id: ids, feature: features });
      await assert.rejects(fromParquet(open, path, "copy"), {
        code: "EXPORT_FORMAT",
      });
    }));
});
