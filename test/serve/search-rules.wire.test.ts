import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { dot } from "#core/vectors";
import { assertClose } from "../support/close.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const count = 300;
let wire: WireServer;
before(async () => {
  wire = await startWireServer({ search: { exact_below: 50 } });
  const { GalleryService } = wire.client;
  for (const [name, index] of [
    ["flat", { flat: {} }],
    ["graph", { hnsw: { m: 8, efConstruction: 40, efSearch: 16 } }],
  ] as const) {
    await GalleryService.CreateGallery({
      gallery: { name, index, cropRetention: "CROP_RETENTION_KEEP" },
    });
    for (let at = 0; at < count; at += 150)
      await GalleryService.Enroll({
        gallery: name,
        enrollments: Array.from({ length: 150 }, (_, i) => ({
          feature: unitFeature(at + i),
          entry: {
            entryId: `e${at + i}`,
            cameraId: String((at + i) % 60),
            attributes: { hat: "red" },
          },
        })),
      });
  }
});
after(() => wire.close());

const query = { feature: unitFeature(7) };
const search = async (gallery: string, more: object = {}, of: object = query) =>
  (
    await wire.client.SearchService.Search({
      gallery,
      k: 10,
      queries: [of],
      ...more,
    })
  ).results[0];
type Result = Awaited<ReturnType<typeof search>>;
const ids = ({ hits }: Result) => hits.map(({ entry }) => entry?.entryId);

/** The next float32 above. */
function above(value: number): number {
  const bits = new Int32Array(1);
  const floats = new Float32Array(bits.buffer);
  floats[0] = value;
  bits[0] += value < 0 ? -1 : 1;
  return floats[0];
}

/** float32 [12] of a feature as it travels. */
const numbersOf = ({ f32le }: { readonly f32le: Buffer }) =>
  new Float32Array(new Uint8Array(f32le).buffer);

describe("hits", () => {
  test("are the nearest by inner product, and exact where EXACT is asked for", async () => {
    const wanted = Array.from({ length: count }, (_, i) => ({
      id: `e${i}`,
      similarity: dot(numbersOf(query.feature), numbersOf(unitFeature(i))),
    })).toSorted((a, b) => b.similarity - a.similarity);
    for (const gallery of ["flat", "graph"]) {
      const found = await search(gallery, { mode: "SEARCH_MODE_EXACT" });
      assert.equal(found.exact, true);
      assert.deepEqual(
        ids(found),
        wanted.slice(0, 10).map(({ id }) => id),
      );
      assertClose(
        found.hits.map(({ similarity }) => similarity),
        wanted.slice(0, 10).map(({ similarity }) => similarity),
        { abs: 1e-6 },
      );
    }
  });

  test("have at least min_similarity, which is in", async () => {
    for (const gallery of ["flat", "graph"]) {
      const mode = "SEARCH_MODE_EXACT";
      const plain = await search(gallery, { mode });
      const third = plain.hits[2].similarity;
      const from = (minSimilarity: number) =>
        search(gallery, { mode, minSimilarity });
      assert.deepEqual(ids(await from(third)), ids(plain).slice(0, 3));
      assert.deepEqual(ids(await from(above(third))), ids(plain).slice(0, 2));
      assert.equal((await from(-1)).hits.length, 10);
    }
    for (const minSimilarity of [1.0001, -1.0001, Number.NaN]) {
      const { facts } = await refused(
        search("flat", { minSimilarity }),
        "FIELD_INVALID",
      );
      assert.equal(facts["field"], "min_similarity");
    }
  });

  test("of one similarity come by entry id, byte by byte, also where k cuts among them", async () => {
    const { GalleryService } = wire.client;
    // A character beyond U+FFFF is behind U+FF5E in bytes, and before it in UTF-16.
    const names = ["Z", "a", "ab", "b", "\u00e9", "\uff5e", "\u{1f600}"];
    for (const [name, index] of [
      ["tied", { flat: {} }],
      ["tied-graph", { hnsw: {} }],
    ] as const) {
      await GalleryService.CreateGallery({ gallery: { name, index } });
      await GalleryService.Enroll({
        gallery: name,
        enrollments: names
          .toReversed()
          .map((entryId) => ({ ...query, entry: { entryId } })),
      });
      assert.deepEqual(ids(await search(name)), names);
      for (const k of [1, 3, 6])
        assert.deepEqual(ids(await search(name, { k })), names.slice(0, k));
    }
  });

  test("show as much of an entry as the view says, and the query's feature beside features", async () => {
    await wire.client.GalleryService.Enroll({
      gallery: "flat",
      enrollments: [
        {
          crop: noiseCrop(5),
          entry: { entryId: "kept", attributes: { hat: "blue" } },
        },
      ],
    });
    const of = { crop: noiseCrop(5) };
    const shown = async (view: string) => {
      const { hits, feature } = await search("flat", { k: 1, view }, of);
      const [{ entry }] = hits;
      assert.equal(entry?.entryId, "kept");
      return [
        { ...entry?.attributes },
        entry?.feature?.f32le.length ?? 0,
        (entry?.crop.length ?? 0) > 0,
        feature?.f32le.length ?? 0,
      ];
    };
    const attributes = { hat: "blue" };
    assert.deepEqual(await shown("ENTRY_VIEW_UNSPECIFIED"), [{}, 0, false, 0]);
    assert.deepEqual(await shown("ENTRY_VIEW_BASIC"), [{}, 0, false, 0]);
    assert.deepEqual(await shown("ENTRY_VIEW_FULL"), [attributes, 0, false, 0]);
    assert.deepEqual(await shown("ENTRY_VIEW_FEATURE"), [
      ...[attributes, 48, false, 48],
    ]);
    assert.deepEqual(await shown("ENTRY_VIEW_CROP"), [attributes, 0, true, 0]);
    const { hits, feature } = await search(
      "flat",
      { k: 1, view: "ENTRY_VIEW_FEATURE" },
      query,
    );
    assert.deepEqual(hits[0].entry?.feature, feature);
    assert.deepEqual({ ...feature?.model }, { name: "door", version: 1 });
    assertClose(numbersOf(feature ?? query.feature), numbersOf(query.feature), {
      abs: 1e-7,
    });
  });

  test("are 10,000 at most, 128 where features or crops are returned", async () => {
    const asked = (k: number, queries: number, more: object = {}) =>
      wire.client.SearchService.Search({
        gallery: "flat",
        k,
        queries: Array.from({ length: queries }, () => query),
        ...more,
      });
    for (const [k, queries, most] of [
      [10_000, 1, 10_000],
      [156, 64, 156],
    ]) {
      assert.ok((await asked(k, queries)).results[0].hits.length > 0);
      const { facts } = await refused(asked(k + 1, queries), "FIELD_INVALID");
      assert.deepEqual(
        [facts["field"], facts["received"], facts["maximum"]],
        ["k", String(k + 1), String(most)],
      );
    }
    for (const view of ["ENTRY_VIEW_FEATURE", "ENTRY_VIEW_CROP"]) {
      const { results } = await asked(128, 1, { view });
      assert.equal(results[0].hits.length, 128);
      await refused(asked(129, 1, { view }), "FIELD_INVALID");
      assert.equal((await asked(2, 64, { view })).results.length, 64);
      await refused(asked(3, 64, { view }), "FIELD_INVALID");
    }
  });

  test("are short only where no further entry passes: then the search was exact", async () => {
    const whole = await search("graph", { k: count + 5 });
    assert.deepEqual([whole.hits.length, whole.exact], [count, true]);
    // Every 60th entry is of one camera: fewer than `search.exact_below`.
    const few = await search("graph", { filter: { cameraIn: ["3"] } });
    assert.deepEqual([few.hits.length, few.exact], [count / 60, true]);
    const none = await search(
      "graph",
      { minSimilarity: 0.9999 },
      {
        feature: unitFeature(9999),
      },
    );
    assert.deepEqual([none.hits, none.exact], [[], none.exact]);
    const many = await search("graph", { freshness: "FRESHNESS_INDEXED" });
    assert.deepEqual([many.hits.length, many.exact], [10, false]);
  });

  test("come with the effort that was asked for, which flat indexes and EXACT have none of", async () => {
    const asked = (gallery: string, effort: number, more: object = {}) =>
      search(gallery, { effort, ...more });
    for (const effort of [1, 10_000])
      assert.equal((await asked("graph", effort)).hits.length, 10);
    for (const call of [
      asked("flat", 1),
      asked("graph", 10_001),
      asked("graph", 1, { mode: "SEARCH_MODE_EXACT" }),
    ]) {
      const { facts } = await refused(call, "FIELD_INVALID");
      assert.equal(facts["field"], "effort");
    }
  });
});

describe("a query", () => {
  test("has its own filter in addition to the request's, and is left out of its own hits", async () => {
    const { results } = await wire.client.SearchService.Search({
      gallery: "flat",
      k: 20,
      filter: { cameraIn: ["1", "2", "3"] },
      queries: [
        query,
        { ...query, filter: { cameraNotIn: ["2"] } },
        { entryId: "e1", filter: { cameraIn: ["1"] } },
        { ...query, filter: { cameraIn: ["4"] } },
      ],
    });
    const cameras = results.map(({ hits }) =>
      [...new Set(hits.map(({ entry }) => entry?.cameraId))].sort(),
    );
    assert.deepEqual(cameras, [["1", "2", "3"], ["1", "3"], ["1"], []]);
    assert.ok(!ids(results[2]).includes("e1"));
    assert.equal(results[2].hits.length, count / 60 - 1);
  });

  test("is one of a crop, a feature and an entry id", async () => {
    const { results } = await wire.client.SearchService.Search({
      gallery: "flat",
      k: 1,
      queries: [{}, { entryId: "" }],
    });
    assert.deepEqual(
      results.map(({ error }) => [error?.reason, error?.field]),
      [
        ["FIELD_INVALID", "queries[0]"],
        ["FIELD_INVALID", "queries[1]"],
      ],
    );
  });
});

describe("a write that is not yet in the index", () => {
  const tail = 100;
  let slow: WireServer;
  before(async () => {
    slow = await startWireServer({ search: { tail } });
    await slow.client.GalleryService.CreateGallery({
      gallery: {
        name: "g",
        index: { hnsw: { m: 128, efConstruction: 2000 } },
      },
    });
  });
  after(() => slow.close());

  const stand = async () => {
    const { gallery } = await slow.client.GalleryService.GetGallery({
      gallery: "g",
    });
    return [gallery?.sequence, gallery?.indexedSequence].map(Number);
  };

  test("is seen by default, not with INDEXED, and with INDEXED and min_sequence once the index has it", async () => {
    const { GalleryService, SearchService } = slow.client;
    for (let at = 0; at < 1280; at += 128)
      await GalleryService.Enroll({
        gallery: "g",
        enrollments: Array.from({ length: 128 }, (_, i) => ({
          feature: unitFeature(at + i),
          entry: { entryId: `e${at + i}` },
        })),
      });
    const found = async (more: object) => {
      const { results, sequence } = await SearchService.Search({
        gallery: "g",
        k: 1,
        queries: [{ feature: unitFeature(1279) }],
        ...more,
      });
      return [results[0].hits[0].entry?.entryId === "e1279", sequence];
    };
    const freshness = "FRESHNESS_INDEXED";
    assert.deepEqual(await found({}), [true, "1280"]);
    const [isThere] = await found({ freshness });
    const [sequence, indexed] = await stand();
    assert.ok(indexed < sequence, "the index had no time to catch up");
    assert.equal(isThere, false);
    const waited = await found({ freshness, minSequence: "1280" });
    assert.deepEqual(waited, [true, "1280"]);
    assert.deepEqual(await stand(), [1280, 1280]);
  });

  test("makes writes wait where there are as many as search.tail", async () => {
    for (let at = 0; at < 512; at += 64) {
      await slow.client.GalleryService.Enroll({
        gallery: "g",
        enrollments: Array.from({ length: 64 }, (_, i) => ({
          feature: unitFeature(5000 + at + i),
        })),
      });
      const [sequence, indexed] = await stand();
      assert.ok(sequence - indexed <= tail + 64, `${sequence - indexed} wait`);
    }
  });
});
