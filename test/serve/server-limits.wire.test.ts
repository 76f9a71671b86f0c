import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RpcName } from "#serve/rpcs";
import { failedCall, trailersOf } from "../support/raw-call.js";
import {
  noiseCrop,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const Mi = 1024 * 1024;

/** api.md section 12. */
const defaults = {
  request_bytes: 16 * Mi,
  response_bytes: 4 * Mi,
  crops: 64,
  enrollments: 256,
  hits: 10_000,
  page_size: 1000,
  attributes: 16,
  window_crops: 256,
  queue_interactive: 512,
  streams: 100,
  encoded_crop_bytes: 4 * Mi,
  crop_pixels: 4 * Mi,
  decoding_pixels: 32 * Mi,
  queries: 64,
  large_hits: 128,
  filter_values: 1000,
  galleries: 256,
  window_enrollments: 4096,
  queue_bulk: 4096,
  dimension: 4096,
};

/** Smaller ones, each to be gone over below. */
const small = {
  request_bytes: 65_536,
  response_bytes: 65_536,
  crops: 2,
  enrollments: 2,
  hits: 12,
  page_size: 2,
  attributes: 1,
  window_crops: 3,
  queue_interactive: 2,
  streams: 50,
  encoded_crop_bytes: 400,
  crop_pixels: 300,
  decoding_pixels: 200,
  queries: 3,
  large_hits: 3,
  filter_values: 2,
  galleries: 2,
  window_enrollments: 5,
  queue_bulk: 2,
  dimension: 16,
};

const limitsOf = async ({ client }: WireServer) =>
  Object.fromEntries(
    Object.entries((await client.AdminService.GetServerInfo({})).limits).map(
      ([name, value]) => [name, Number(value)],
    ),
  );

describe("the limits", () => {
  let wire: WireServer;
  before(async () => {
    wire = await startWireServer({ limits: small });
    const { GalleryService } = wire.client;
    const external = { name: "external", version: 1 };
    await GalleryService.CreateGallery({ gallery: { name: "g" } });
    await GalleryService.CreateGallery({
      gallery: { name: "h", model: external, dimension: 16 },
    });
    for (const ids of [["a", "b"], ["c"]])
      await GalleryService.Enroll({
        gallery: "g",
        enrollments: ids.map((entryId, i) => ({
          feature: unitFeature(i),
          entry: { entryId },
        })),
      });
  });
  after(() => wire.close());

  test("of a server are in GetServerInfo, all of them: those of its configuration, else the defaults", async () => {
    assert.deepEqual(await limitsOf(wire), small);
    const plain = await startWireServer();
    try {
      assert.deepEqual(await limitsOf(plain), defaults);
    } finally {
      await plain.close();
    }
  });

  const feature = unitFeature(1);
  const search = (k: number, queries = 1, more: object = {}) => ({
    gallery: "g",
    k,
    queries: Array.from({ length: queries }, () => ({ feature })),
    ...more,
  });
  const enroll = (count: number, entry: object = {}) => ({
    gallery: "g",
    enrollments: Array.from({ length: count }, () => ({ feature, entry })),
  });
  const calls: readonly (readonly [
    keyof typeof small,
    RpcName,
    object,
    string,
    string?,
  ])[] = [
    [
      "crops",
      "EmbedService/Embed",
      { crops: [{}, {}, {}] },
      "BATCH_TOO_LARGE",
      "crops",
    ],
    [
      "enrollments",
      "GalleryService/Enroll",
      enroll(3),
      "BATCH_TOO_LARGE",
      "enrollments",
    ],
    [
      "queries",
      "SearchService/Search",
      search(1, 4),
      "BATCH_TOO_LARGE",
      "queries",
    ],
    ["hits", "SearchService/Search", search(13), "FIELD_INVALID", "k"],
    ["hits", "SearchService/Search", search(5, 3), "FIELD_INVALID", "k"],
    [
      "hits",
      "SearchService/Search",
      search(3, 1, { group: { hitsPerIdentity: 5 } }),
      "FIELD_INVALID",
      "k",
    ],
    [
      "large_hits",
      "SearchService/Search",
      search(4, 1, { view: "ENTRY_VIEW_FEATURE" }),
      "FIELD_INVALID",
      "k",
    ],
    [
      "filter_values",
      "SearchService/Search",
      search(1, 1, { filter: { cameraIn: ["1", "2"], trackIn: ["3"] } }),
      "FIELD_INVALID",
      "filter.track_in",
    ],
    [
      "filter_values",
      "SearchService/Identify",
      { gallery: "g", feature, filter: { cameraIn: ["1", "2", "3"] } },
      "FIELD_INVALID",
      "filter.camera_in",
    ],
    [
      "window_crops",
      "EmbedService/StreamEmbed",
      { open: { window: 4 } },
      "FIELD_INVALID",
      "open.window",
    ],
    [
      "window_enrollments",
      "GalleryService/StreamEnroll",
      { open: { gallery: "g", window: 6 } },
      "FIELD_INVALID",
      "open.window",
    ],
    [
      "galleries",
      "GalleryService/CreateGallery",
      { gallery: { name: "x" } },
      "GALLERY_LIMIT",
    ],
    [
      "dimension",
      "GalleryService/CreateGallery",
      {
        gallery: {
          name: "x",
          model: { name: "external", version: 1 },
          dimension: 17,
        },
      },
      "FIELD_INVALID",
      "gallery.dimension",
    ],
    [
      "encoded_crop_bytes",
      "SearchService/Identify",
      { gallery: "g", crop: { encoded: Buffer.alloc(401) } },
      "CROP_TOO_LARGE",
      "crop.encoded",
    ],
    [
      "crop_pixels",
      "SearchService/Identify",
      {
        gallery: "g",
        crop: {
          raw: {
            data: Buffer.alloc(1200),
            format: "PIXEL_FORMAT_RGB8",
            widthPx: 20,
            heightPx: 20,
          },
        },
      },
      "CROP_TOO_LARGE",
      "crop.raw.width_px",
    ],
  ];
  for (const [limit, name, request, reason, field] of calls)
    test(`hold ${name}: ${limit} ${small[limit]}, ${reason} of ${field ?? "the call"}`, async () => {
      const failed = await failedCall(wire.address, name, request);
      const { error } = trailersOf(failed);
      assert.equal(error.code, reason, error.message);
      assert.equal(error.facts["field"], field);
    });

  test("are met by what is just within them", async () => {
    const { EmbedService, GalleryService, SearchService } = wire.client;
    const crops = [noiseCrop(1), noiseCrop(2)];
    assert.equal((await EmbedService.Embed({ crops })).results.length, 2);
    for (const request of [
      search(12),
      search(4, 3),
      search(3, 1, { view: "ENTRY_VIEW_FEATURE" }),
      search(1, 1, { filter: { cameraIn: ["1"], trackIn: ["3"] } }),
    ])
      await SearchService.Search(request);
    const { results } = await GalleryService.Enroll(
      enroll(2, { attributes: { hat: "red" } }),
    );
    assert.ok(results.every(({ error }) => error === null));
  });

  test("of an entry's attributes hold each entry, and of a page every list", async () => {
    const { GalleryService } = wire.client;
    const { results } = await GalleryService.Enroll(
      enroll(1, { attributes: { hat: "red", bag: "blue" } }),
    );
    assert.equal(results[0].error?.field, "enrollments[0].entry.attributes");
    const gallery = "g";
    const pageSize = 1000;
    const { entries } = await GalleryService.ListEntries({ gallery, pageSize });
    assert.equal(entries.length, 2);
    const large = await GalleryService.ListEntries({
      ...{ gallery, pageSize },
      view: "ENTRY_VIEW_FEATURE",
    });
    // The smaller of page_size and large_hits.
    assert.equal(large.entries.length, 2);
  });
});
