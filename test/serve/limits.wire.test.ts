import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { randomStream } from "#core/random";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer();
});
after(() => wire.close());

const galleries = () => wire.client.GalleryService;

/** `unitFeature` as plain numbers. */
function plain(seed: number) {
  const { f32le, model } = unitFeature(seed);
  const values = new Float32Array(new Uint8Array(f32le).buffer);
  return { values: [...values], model };
}

describe("a gallery that is full", () => {
  before(() =>
    galleries().CreateGallery({
      gallery: { name: "small", maxEntries: "2", index: { flat: {} } },
    }),
  );
  const enroll = (ids: readonly string[]) =>
    galleries().Enroll({
      gallery: "small",
      enrollments: ids.map((entryId, i) => ({
        feature: unitFeature(i),
        entry: { entryId },
      })),
    });

  test("refuses the item too many with GALLERY_FULL and writes its neighbours", async () => {
    const { results } = await enroll(["a", "b", "c"]);
    assert.deepEqual(
      results.map(({ error }) => error?.reason ?? "ok"),
      ["ok", "ok", "GALLERY_FULL"],
    );
    assert.equal(results[2].error?.code, 8);
    assert.deepEqual(
      { ...results[2].error?.metadata },
      { gallery: "small", maximum: "2" },
    );
  });

  test("replaces what it holds, and takes another where one has left", async () => {
    assert.equal((await enroll(["a"])).results[0].error, null);
    await galleries().DeleteEntries({
      gallery: "small",
      selector: { entryIds: ["b"] },
    });
    assert.equal((await enroll(["c"])).results[0].error, null);
  });
});

describe("features as values", () => {
  before(() =>
    galleries().CreateGallery({
      gallery: { name: "plain", index: { flat: {} } },
    }),
  );
  const items = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ feature: plain(i) }));

  test("are taken for 8 features of a message and refused for 9", async () => {
    const enroll = (enrollments: object[]) =>
      galleries().Enroll({ gallery: "plain", enrollments });
    const search = (queries: object[]) =>
      wire.client.SearchService.Search({ gallery: "plain", k: 1, queries });
    assert.equal((await enroll(items(8))).results.length, 8);
    assert.equal((await search(items(8))).results.length, 8);
    for (const [call, field] of [
      [enroll(items(9)), "enrollments[8].feature.values"],
      [search(items(9)), "queries[8].feature.values"],
    ] as const) {
      const { facts } = await refused(call, "FIELD_INVALID");
      assert.equal(facts["field"], field);
    }
  });

  test("are given for 8 features of a message, means of tracks included", async () => {
    const embed = (count: number, more: object = {}) =>
      wire.client.EmbedService.Embed({
        crops: Array.from({ length: count }, (_, i) => ({
          ...noiseCrop(i),
          cameraId: "1",
          trackId: "t",
        })),
        encoding: "FEATURE_ENCODING_VALUES",
        ...more,
      });
    assert.equal((await embed(8)).results.length, 8);
    await refused(embed(9), "FIELD_INVALID");
    await refused(embed(8, { pooling: "POOLING_TRACK_MEAN" }), "FIELD_INVALID");
  });
});

describe("times, tags and attributes of an entry", () => {
  before(() =>
    galleries().CreateGallery({
      gallery: {
        name: "timed",
        index: { flat: {} },
        tags: { Site: "north", "owner.team": "door" },
      },
    }),
  );

  test("an entry that lives for a moment is taken, and one in the past is not there", async () => {
    const { results } = await galleries().Enroll({
      gallery: "timed",
      enrollments: [
        {
          feature: unitFeature(1),
          entry: { entryId: "a" },
          ttl: { nanos: 1e6 },
        },
        { feature: unitFeature(2), entry: { entryId: "b" }, ttl: {} },
        {
          feature: unitFeature(3),
          entry: { entryId: "c", expiresAt: { seconds: "1" } },
        },
      ],
    });
    assert.deepEqual(
      results.map(({ error }) => error?.field ?? "ok"),
      ["ok", "enrollments[1].ttl", "ok"],
    );
    await refused(
      galleries().GetEntry({ gallery: "timed", entryId: "c" }),
      "ENTRY_NOT_FOUND",
    );
  });

  test("the time of a crop is its arrival by default, that of a feature is not known", async () => {
    await galleries().Enroll({
      gallery: "timed",
      enrollments: [
        { crop: noiseCrop(1), entry: { entryId: "crop" } },
        {
          feature: unitFeature(4),
          entry: { entryId: "feature", attributes: { note: "two\nlines" } },
        },
      ],
    });
    const entry = async (entryId: string) =>
      (
        await galleries().GetEntry({
          gallery: "timed",
          entryId,
          view: "ENTRY_VIEW_FULL",
        })
      ).entry;
    assert.ok((await entry("crop"))?.capturedAt);
    const feature = await entry("feature");
    assert.equal(feature?.capturedAt, null);
    assert.deepEqual({ ...feature?.attributes }, { note: "two\nlines" });
  });
});

describe("pages", () => {
  test("go on where they were when the gallery they ended with is gone", async () => {
    for (const name of ["page-a", "page-b", "page-c"])
      await galleries().CreateGallery({ gallery: { name } });
    const names = ({ galleries: list }: { galleries: { name: string }[] }) =>
      list.map(({ name }) => name).filter((name) => name.startsWith("page-"));
    const first = await galleries().ListGalleries({ pageSize: 2 });
    assert.deepEqual(names(first), ["page-a", "page-b"]);
    await galleries().DeleteGallery({ gallery: "page-b" });
    const { nextPageToken: pageToken } = first;
    const second = await galleries().ListGalleries({ pageToken });
    assert.deepEqual(names(second), ["page-c"]);
  });
});

describe("answers that are larger than a message", () => {
  /** A crop of noise whose PNG has some 30 kB. */
  const largeCrop = (seed: number) => {
    const random = randomStream(seed, "large crop");
    const data = Buffer.from(
      Uint8Array.from({ length: 30_000 }, () => random.below(256)),
    );
    const format = "PIXEL_FORMAT_RGB8" as const;
    return { raw: { data, format, widthPx: 100, heightPx: 100 } };
  };

  test("are cut into pages by ListEntries, and refused with MESSAGE_TOO_LARGE by Search", async () => {
    const small = await startWireServer({ limits: { response_bytes: 80_000 } });
    try {
      const { GalleryService, SearchService } = small.client;
      await GalleryService.CreateGallery({
        gallery: {
          name: "kept",
          index: { flat: {} },
          cropRetention: "CROP_RETENTION_KEEP",
        },
      });
      await GalleryService.Enroll({
        gallery: "kept",
        enrollments: ["a", "b", "c"].map((entryId, i) => ({
          crop: largeCrop(i),
          entry: { entryId },
        })),
      });
      const pages: string[][] = [];
      let pageToken = "";
      do {
        const page = await GalleryService.ListEntries({
          gallery: "kept",
          view: "ENTRY_VIEW_CROP",
          pageToken,
        });
        pages.push(page.entries.map(({ entryId }) => entryId));
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      assert.deepEqual(pages, [["a", "b"], ["c"]]);
      const search = (k: number) =>
        SearchService.Search({
          gallery: "kept",
          k,
          view: "ENTRY_VIEW_CROP",
          queries: [{ crop: largeCrop(0) }],
        });
      assert.equal((await search(2)).results[0].hits.length, 2);
      const error = await refused(search(3), "MESSAGE_TOO_LARGE");
      assert.equal(error.kind, "resource-exhausted");
      assert.equal(error.facts["maximumBytes"], "80000");
    } finally {
      await small.close();
    }
  });
});
