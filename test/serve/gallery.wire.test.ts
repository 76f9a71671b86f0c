import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { badInputs } from "../support/bad-items.js";
import { wireEngine } from "../support/scaled.js";
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
  await wire.client.GalleryService.CreateGallery({
    gallery: { name: "g", index: { flat: {} } },
  });
});
after(() => wire.close());

const galleries = () => wire.client.GalleryService;
const enroll = (enrollments: object[], more: object = {}) =>
  galleries().Enroll({ gallery: "g", enrollments, ...more });
const search = (queries: object[], more: object = {}) =>
  wire.client.SearchService.Search({ gallery: "g", k: 5, queries, ...more });

describe("galleries", () => {
  test("are made with their defaults filled in, described, listed and deleted", async () => {
    const { gallery } = await galleries().CreateGallery({
      gallery: { name: "made" },
    });
    assert.notEqual(gallery?.index?.flat ?? null, null);
    assert.equal(gallery?.dimension, 12);
    assert.deepEqual({ ...gallery?.model }, { name: "door", version: 1 });
    const listed = await galleries().ListGalleries({ pageSize: 1 });
    assert.deepEqual(
      listed.galleries.map(({ name }) => name),
      ["g"],
    );
    const rest = await galleries().ListGalleries({
      pageToken: listed.nextPageToken,
    });
    assert.deepEqual(
      rest.galleries.map(({ name }) => name),
      ["made"],
    );
    await galleries().DeleteGallery({ gallery: "made" });
    await refused(
      galleries().GetGallery({ gallery: "made" }),
      "GALLERY_NOT_FOUND",
    );
    await refused(
      galleries().DeleteGallery({ gallery: "made" }),
      "GALLERY_NOT_FOUND",
    );
  });

  test("show the index they were made with, its defaults filled in", async () => {
    const cases = [
      [{ flat: {}, storage: "FEATURE_STORAGE_INT8" }, { flat: {} }],
      [
        { hnsw: { m: 8 }, storage: "FEATURE_STORAGE_F16" },
        { hnsw: { m: 8, efConstruction: 200, efSearch: 128 } },
      ],
      [
        { ivf: { lists: 9, pq: { segments: 1 } } },
        { ivf: { lists: 9, probes: 0, pq: { segments: 1, bits: 8 } } },
      ],
    ] as const;
    for (const [index, shown] of cases) {
      if (wireEngine === "scaled" && "storage" in index) {
        // Milvus has neither.
        const refusal = galleries().CreateGallery({
          gallery: { name: "kind", index },
        });
        await refused(refusal, "ENGINE_UNSUPPORTED");
        continue;
      }
      const { gallery } = await galleries().CreateGallery({
        gallery: { name: "kind", index },
      });
      const { storage, ...kind } = gallery?.index ?? {};
      assert.equal(
        storage,
        "storage" in index ? index.storage : "FEATURE_STORAGE_F32",
      );
      assert.deepEqual(
        JSON.parse(JSON.stringify(kind, (_, value) => value ?? undefined)),
        { ...shown, kind: Object.keys(shown)[0] },
      );
      await galleries().DeleteGallery({ gallery: "kind" });
    }
  });

  test("refuse bad names, a second one, other dimensions and unknown models", async () => {
    const create = (gallery: object) => galleries().CreateGallery({ gallery });
    await refused(create({ name: "Bad Name" }), "FIELD_INVALID");
    await refused(create({ name: "g" }), "GALLERY_EXISTS");
    await refused(create({ name: "x", dimension: 7 }), "MODEL_INCOMPATIBLE");
    await refused(
      create({ name: "x", model: { name: "nobody" } }),
      "MODEL_NOT_FOUND",
    );
    await refused(
      create({ name: "x", model: { name: "external", version: 1 } }),
      "FIELD_INVALID",
    );
    await refused(
      create({ name: "x", index: { hnsw: { m: 3 } } }),
      "FIELD_INVALID",
    );
    for (const index of [
      { ivf: { lists: 65_537 } },
      { ivf: { lists: 10, probes: 11 } },
      { ivf: { pq: {} } },
      { ivf: { pq: { segments: 7 } } },
      { ivf: { pq: { segments: 1, bits: 5 } } },
      { ivf: { pq: { segments: 1 } }, storage: "FEATURE_STORAGE_F16" },
      { hnsw: {}, storage: 9 },
      { storage: "FEATURE_STORAGE_INT8" },
    ])
      await refused(create({ name: "x", index }), "FIELD_INVALID");
    await refused(
      galleries().ListGalleries({ pageToken: "rubbish" }),
      "PAGE_TOKEN_INVALID",
    );
  });

  test("of features made elsewhere refuse crops", async () => {
    await galleries().CreateGallery({
      gallery: {
        name: "outside",
        model: { name: "external", version: 3 },
        dimension: 12,
      },
    });
    const { results } = await galleries().Enroll({
      gallery: "outside",
      enrollments: [
        { crop: noiseCrop(1) },
        {
          feature: {
            ...unitFeature(1),
            model: { name: "external", version: 3 },
          },
        },
      ],
    });
    assert.deepEqual(
      results.map(({ error }) => error?.reason ?? "ok"),
      ["MODEL_INCOMPATIBLE", "ok"],
    );
    await galleries().DeleteGallery({ gallery: "outside" });
  });
});

describe("Enroll", () => {
  test("keeps what it acknowledged under ids, and every later read sees it", async () => {
    const { results, sequence } = await enroll([
      {
        crop: { ...noiseCrop(1), cameraId: "3" },
        entry: { entryId: "e1", identity: "42", attributes: { colour: "red" } },
      },
      { feature: unitFeature(2), entry: { entryId: "e2", cameraId: "4" } },
    ]);
    assert.deepEqual(
      results.map(({ entryId, error }) => [entryId, error]),
      [
        ["e1", null],
        ["e2", null],
      ],
    );
    const { entry } = await galleries().GetEntry({
      gallery: "g",
      entryId: "e1",
      view: "ENTRY_VIEW_FEATURE",
    });
    assert.equal(entry?.cameraId, "3");
    assert.equal(entry?.identity, "42");
    assert.deepEqual({ ...entry?.attributes }, { colour: "red" });
    assert.equal(entry?.feature?.f32le.length, 48);
    assert.ok(Number(sequence) >= 2);
  });

  test("gives each item its own outcome and leaves the others unharmed", async () => {
    const { results } = await enroll([
      { feature: unitFeature(4) },
      ...badInputs.map(({ input }) => input),
      {},
      { feature: unitFeature(5), entry: { attributes: { "Not A Key": "1" } } },
      { feature: unitFeature(6), ttl: { seconds: "-1" } },
      { feature: unitFeature(7) },
    ]);
    const wanted: readonly (readonly [string, string])[] = [
      ["ok", ""],
      ...badInputs.map(({ reason, field }) => [reason, `.${field}`] as const),
      ["FIELD_INVALID", ""],
      ["FIELD_INVALID", ".entry.attributes"],
      ["FIELD_INVALID", ".ttl"],
      ["ok", ""],
    ];
    assert.deepEqual(
      results.map(({ error }) => [error?.reason ?? "ok", error?.field ?? ""]),
      wanted.map(([reason, field], i) => [
        reason,
        reason === "ok" ? "" : `enrollments[${i}]${field}`,
      ]),
    );
  });

  test("answers a repeated request id as before, and refuses it for another request", async () => {
    const requestId = randomUUID();
    const first = await enroll([{ feature: unitFeature(8) }], { requestId });
    const again = await enroll([{ feature: unitFeature(8) }], { requestId });
    assert.deepEqual(again, first);
    await refused(
      enroll([{ feature: unitFeature(9) }], { requestId }),
      "REQUEST_ID_REUSED",
    );
    await refused(
      enroll([{ feature: unitFeature(9) }], { requestId: "no uuid" }),
      "FIELD_INVALID",
    );
  });

  test("refuses no items, too many, and an unknown gallery", async () => {
    await refused(enroll([]), "BATCH_TOO_LARGE");
    await refused(
      enroll(Array.from({ length: 257 }, () => ({}))),
      "BATCH_TOO_LARGE",
    );
    await refused(
      enroll([{ feature: unitFeature(1) }], { gallery: "nowhere" }),
      "GALLERY_NOT_FOUND",
    );
  });

  test("fails an item whose id is taken where it is told to", async () => {
    const one = [{ feature: unitFeature(10), entry: { entryId: "taken" } }];
    await enroll(one);
    const { results } = await enroll(one, { onExisting: "ON_EXISTING_FAIL" });
    assert.equal(results[0].error?.reason, "ENTRY_EXISTS");
    assert.equal(results[0].error?.code, 6);
  });
});

describe("Search", () => {
  before(async () => {
    await enroll(
      [1, 2, 3].flatMap((identity) =>
        [1, 2].map((camera) => ({
          feature: unitFeature(100 + identity * 10 + camera),
          entry: {
            entryId: `s-${identity}-${camera}`,
            identity: `p${identity}`,
            cameraId: `cam${camera}`,
          },
        })),
      ),
    );
  });
  const query = { feature: unitFeature(111) };
  const ids = (result: {
    readonly hits: readonly {
      readonly entry: { readonly entryId: string } | null;
    }[];
  }) => result.hits.map(({ entry }) => entry?.entryId);

  test("finds by feature, by entry and by crop, closest first", async () => {
    const { results, model } = await search([
      { ...query, queryId: "f" },
      { entryId: "s-1-1" },
      { crop: noiseCrop(1) },
    ]);
    assert.equal(results[0].queryId, "f");
    assert.equal(ids(results[0])[0], "s-1-1");
    assert.ok(results[0].hits[0].similarity > 0.99999);
    assert.ok(!ids(results[1]).includes("s-1-1"));
    assert.equal(ids(results[2])[0], "e1");
    assert.ok(results[0].exact);
    assert.deepEqual({ ...model }, { name: "door", version: 1 });
  });

  test("leaves out what the filters of request and query exclude", async () => {
    const filter = { identityIn: ["p1", "p2"], cameraNotIn: ["cam2"] };
    const { results } = await search(
      [query, { ...query, filter: { identityNotIn: ["p1"] } }],
      { filter },
    );
    assert.deepEqual(ids(results[0]).sort(), ["s-1-1", "s-2-1"]);
    assert.deepEqual(ids(results[1]), ["s-2-1"]);
    const junk = await search([query], {
      filter: {
        identityIn: ["p1"],
        notBoth: { identity: "p1", cameraId: "cam1" },
      },
    });
    assert.deepEqual(ids(junk.results[0]), ["s-1-2"]);
  });

  test("gives each query its own outcome", async () => {
    const { results } = await search([
      query,
      ...badInputs.map(({ input }) => input),
      { entryId: "nobody" },
      {},
      { ...query, queryId: "x".repeat(129) },
      query,
    ]);
    const wanted: readonly (readonly [string, string])[] = [
      ["ok", ""],
      ...badInputs.map(({ reason, field }) => [reason, `.${field}`] as const),
      ["ENTRY_NOT_FOUND", ".entry_id"],
      ["FIELD_INVALID", ""],
      ["FIELD_INVALID", ".query_id"],
      ["ok", ""],
    ];
    assert.deepEqual(
      results.map(({ error }) => [error?.reason ?? "ok", error?.field ?? ""]),
      wanted.map(([reason, field], i) => [
        reason,
        reason === "ok" ? "" : `queries[${i}]${field}`,
      ]),
    );
  });

  test("refuses a query's feature that is not finite, not unit, or of another length", async () => {
    const numbers = new Float32Array(
      new Uint8Array(query.feature.f32le).buffer,
    );
    const withNumbers = (values: Float32Array) => ({
      feature: { ...query.feature, f32le: Buffer.from(values.buffer) },
    });
    const { results } = await search([
      withNumbers(numbers.with(3, Number.NaN)),
      withNumbers(numbers.with(4, Infinity)),
      withNumbers(numbers.map((value) => value * 2)),
      withNumbers(new Float32Array(12)),
      withNumbers(numbers.slice(1)),
      query,
    ]);
    const wanted: readonly (readonly [string, RegExp])[] = [
      ["FEATURE_NOT_FINITE", /not finite at position 3: send finite/],
      ["FEATURE_NOT_FINITE", /not finite at position 4: send finite/],
      ["FEATURE_NOT_UNIT", /norm 2.*, expected 1 within 0\.001: divide it by/],
      ["FEATURE_NOT_UNIT", /norm 0, expected 1 within 0\.001: divide it by/],
      ["FEATURE_DIMENSION", /"g" holds features of 12 .* has 11: embed it/],
    ];
    wanted.forEach(([reason, message], i) => {
      assert.equal(results[i].error?.reason, reason);
      assert.match(results[i].error?.message ?? "", message);
    });
    assert.ok(results[5].hits.length > 0, "their neighbour is answered");
  });

  test("says of k which values it may have", async () => {
    for (const k of [0, 10_001]) {
      const error = await refused(search([query], { k }), "FIELD_INVALID");
      assert.equal(error.facts["field"], "k");
      assert.match(error.message, new RegExp(`${k}.*1 to 10000`));
    }
  });

  test("answers OK where every query failed", async () => {
    // Regression: a call of which no query was left to search with failed as a whole.
    const { results, sequence } = await search([{ entryId: "nobody" }, {}]);
    assert.deepEqual(
      results.map(({ error }) => [error?.reason, error?.field]),
      [
        ["ENTRY_NOT_FOUND", "queries[0].entry_id"],
        ["FIELD_INVALID", "queries[1]"],
      ],
    );
    assert.ok(Number(sequence) > 0);
  });

  test("takes no empty id in a filter: a missing field is different from every value", async () => {
    for (const filter of [
      { cameraIn: [""] },
      { identityNotIn: [""] },
      { notBoth: { identity: "p1" } },
    ])
      await refused(search([query], { filter }), "FIELD_INVALID");
  });

  test("says the range of k in the facts", async () => {
    const { facts } = await refused(
      search([query, query], { k: 5001 }),
      "FIELD_INVALID",
    );
    assert.deepEqual(
      [facts["field"], facts["received"], facts["minimum"], facts["maximum"]],
      ["k", "5001", "1", "5000"],
    );
  });

  test("refuses k of 0 and over the limit, too many queries, and broken envelopes", async () => {
    await refused(search([query], { k: 0 }), "FIELD_INVALID");
    await refused(search([query], { k: 10_001 }), "FIELD_INVALID");
    await refused(search([query, query], { k: 5001 }), "FIELD_INVALID");
    await refused(
      search([query], { k: 129, view: "ENTRY_VIEW_FEATURE" }),
      "FIELD_INVALID",
    );
    await refused(search([]), "BATCH_TOO_LARGE");
    await refused(
      search(Array.from({ length: 65 }, () => query)),
      "BATCH_TOO_LARGE",
    );
    await refused(search([query], { minSimilarity: 1.5 }), "FIELD_INVALID");
    await refused(search([query], { effort: 10 }), "FIELD_INVALID");
    await refused(search([query], { view: 99 }), "FIELD_INVALID");
    await refused(
      search([query], {
        filter: { cameraIn: Array.from({ length: 1001 }, (_, i) => `${i}`) },
      }),
      "FIELD_INVALID",
    );
    await refused(search([query], { gallery: "nowhere" }), "GALLERY_NOT_FOUND");
    await refused(
      search([query], { model: { name: "door", version: 2 } }),
      "MODEL_MISMATCH",
    );
    for (const minSequence of ["99999", "18446744073709551615"])
      await refused(search([query], { minSequence }), "SEQUENCE_AHEAD");
  });
});

describe("entries", () => {
  test("are listed by sequence in pages, and deleted by id, identity and filter", async () => {
    const { GalleryService } = wire.client;
    const first = await GalleryService.ListEntries({
      gallery: "g",
      pageSize: 2,
    });
    assert.equal(first.entries.length, 2);
    const second = await GalleryService.ListEntries({
      gallery: "g",
      pageSize: 2,
      pageToken: first.nextPageToken,
    });
    const sequences = [...first.entries, ...second.entries].map((entry) =>
      Number(entry.sequence),
    );
    assert.deepEqual(
      sequences,
      [...sequences].sort((a, b) => a - b),
    );
    await refused(
      GalleryService.ListEntries({
        gallery: "g",
        filter: { cameraIn: ["1"] },
        pageToken: first.nextPageToken,
      }),
      "PAGE_TOKEN_INVALID",
    );
    const remove = (selector: object) =>
      GalleryService.DeleteEntries({ gallery: "g", selector });
    assert.equal(
      (await remove({ entryIds: ["s-1-1", "no"] })).deletedCount,
      "1",
    );
    assert.equal((await remove({ identity: "p2" })).deletedCount, "2");
    const byFilter = await remove({ filter: { identityIn: ["p3"] } });
    assert.equal(byFilter.deletedCount, "2");
    await refused(remove({ filter: {} }), "FILTER_EMPTY");
    await refused(remove({}), "FIELD_INVALID");
    await refused(
      GalleryService.GetEntry({ gallery: "g", entryId: "s-1-1" }),
      "ENTRY_NOT_FOUND",
    );
    await refused(
      GalleryService.GetEntry({ gallery: "g", entryId: "" }),
      "FIELD_INVALID",
    );
  });

  test("are listed a page at a time behind the cursor, whatever is written meanwhile", async () => {
    const { GalleryService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "paged" } });
    const write = (ids: readonly string[]) =>
      GalleryService.Enroll({
        gallery: "paged",
        enrollments: ids.map((entryId, i) => ({
          entry: { entryId, cameraId: "1" },
          feature: unitFeature(i),
        })),
      });
    await write(["a", "b", "c", "d", "e"]);
    const page = (pageToken: string, pageSize: number) =>
      GalleryService.ListEntries({
        gallery: "paged",
        filter: { cameraIn: ["1"] },
        pageSize,
        pageToken,
      });
    const first = await page("", 2);
    await GalleryService.DeleteEntries({
      gallery: "paged",
      selector: { entryIds: ["a", "b", "c"] },
    });
    await write(["d", "f"]);
    const second = await page(first.nextPageToken, 2);
    const third = await page(second.nextPageToken, 2);
    assert.deepEqual(
      [first, second, third].map(({ entries }) =>
        entries.map(({ entryId, sequence }) => `${entryId} ${sequence}`),
      ),
      [["a 1", "b 2"], ["e 5", "d 9"], ["f 10"]],
    );
    assert.equal(third.nextPageToken, "");
    const beyond = await page("", 4_000_000_000);
    assert.equal(beyond.entries.length, 3);
  });

  test("refuse bad names, unknown galleries, too many values, and pages and views that there are not", async () => {
    const { GalleryService } = wire.client;
    const list = (request: object) =>
      GalleryService.ListEntries({ gallery: "g", ...request });
    const remove = (request: object) =>
      GalleryService.DeleteEntries({
        gallery: "g",
        selector: { identity: "p" },
        ...request,
      });
    const get = (request: object) =>
      GalleryService.GetEntry({ gallery: "g", entryId: "e", ...request });
    for (const call of [list, remove, get]) {
      await refused(call({ gallery: "No Name" }), "FIELD_INVALID");
      await refused(call({ gallery: "nowhere" }), "GALLERY_NOT_FOUND");
    }
    const long = "x".repeat(129);
    const values = Array.from({ length: 501 }, (_, i) => `${i}`);
    for (const [filter, field] of [
      [{ cameraIn: values, trackIn: values }, "filter.track_in"],
      [{ identityIn: [long] }, "filter.identity_in[0]"],
      [{ entryNotIn: ["a\u0000"] }, "filter.entry_not_in[0]"],
      [{ identified: 7 }, "filter.identified"],
      [{ captured: { start: { seconds: "-1" } } }, "filter.captured.start"],
      [{ attributes: [{ key: "", anyOf: ["x"] }] }, "filter.attributes[0].key"],
      [{ attributes: [{ key: "hat" }] }, "filter.attributes[0]"],
      [
        { attributes: [{ key: "hat", anyOf: ["x"], noneOf: ["y"] }] },
        "filter.attributes[0]",
      ],
      [{ notBoth: { identity: "p" } }, "filter.not_both.camera_id"],
    ] as const) {
      const listing = await refused(list({ filter }), "FIELD_INVALID");
      assert.equal(listing.facts["field"], field);
      const deleting = await refused(
        remove({ selector: { filter } }),
        "FIELD_INVALID",
      );
      assert.equal(deleting.facts["field"], `selector.${field}`);
    }
    await refused(list({ view: 9 }), "FIELD_INVALID");
    await refused(get({ view: 9 }), "FIELD_INVALID");
    await refused(list({ pageToken: "rubbish" }), "PAGE_TOKEN_INVALID");
  });
});
