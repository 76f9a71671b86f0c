import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { assertClose } from "../support/close.js";
import { plainRerankedDistances } from "../support/plain-reranking.js";
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
    gallery: {
      name: "g",
      index: { flat: {} },
      cropRetention: "CROP_RETENTION_KEEP",
    },
  });
  // Twelve entries of p0, two of each p1 to p9, four without identity; the first of them is kept as a crop.
  await wire.client.GalleryService.Enroll({
    gallery: "g",
    enrollments: [
      ...Array.from({ length: 34 }, (_, i) => ({
        feature: unitFeature(i),
        entry: {
          entryId: `e${i}`,
          identity: i < 12 ? "p0" : i < 30 ? `p${1 + ((i - 12) % 9)}` : "",
          cameraId: String(i % 2),
        },
      })),
      { crop: noiseCrop(1), entry: { entryId: "kept", identity: "k" } },
    ],
  });
});
after(() => wire.close());

const query = { feature: unitFeature(3) };
const search = (more: object, queries: object[] = [query]) =>
  wire.client.SearchService.Search({ gallery: "g", k: 5, queries, ...more });
const ids = (hits: readonly { readonly entry: { entryId: string } | null }[]) =>
  hits.map(({ entry }) => entry?.entryId);

describe("Search with group", () => {
  test("counts identities in k, and lists each with its best hits", async () => {
    const plain = (await search({ k: 35 })).results[0].hits;
    const { results } = await search({
      k: 4,
      group: { hitsPerIdentity: 2 },
    });
    const [{ hits, identities }] = results;
    assert.deepEqual(hits, []);
    assert.equal(identities.length, 4);
    assert.equal(identities[0].identity, "p0");
    // An engine may measure an entry in its index for one search and in its store for the other.
    const difference = identities[0].similarity - plain[0].similarity;
    assert.ok(Math.abs(difference) < 1e-6);
    for (const group of identities) {
      const own = plain.filter(({ entry }) =>
        group.identity === ""
          ? entry?.entryId === group.hits[0].entry?.entryId
          : entry?.identity === group.identity,
      );
      assert.deepEqual(ids(group.hits), ids(own.slice(0, 2)));
    }
  });

  test("is never short while there are identities, and has one group for each entry without", async () => {
    const { results } = await search({ k: 100, group: {} });
    const { identities } = results[0];
    assert.equal(identities.length, 10 + 4 + 1);
    assert.ok(identities.every(({ hits }) => hits.length === 1));
    const unknown = identities.filter(({ identity }) => identity === "");
    assert.equal(unknown.length, 4);
  });

  test("keeps to filters and min_similarity", async () => {
    const filtered = await search({
      k: 100,
      group: { hitsPerIdentity: 100 },
      filter: { cameraIn: ["1"] },
      minSimilarity: 0,
    });
    const all = filtered.results[0].identities.flatMap(({ hits }) => hits);
    const plain = await search({
      k: 100,
      filter: { cameraIn: ["1"] },
      minSimilarity: 0,
    });
    assert.deepEqual(ids(all).sort(), ids(plain.results[0].hits).sort());
  });

  test("takes k · hits_per_identity · queries up to the limit and refuses more", async () => {
    const group = { hitsPerIdentity: 100 };
    assert.ok((await search({ k: 100, group })).results[0].identities.length);
    for (const [more, queries] of [
      [{ k: 101, group }, [query]],
      [{ k: 51, group }, [query, query]],
      [{ k: 2, group, view: "ENTRY_VIEW_FEATURE" }, [query]],
    ] as const) {
      const { facts } = await refused(
        search(more, [...queries]),
        "FIELD_INVALID",
      );
      assert.equal(facts["field"], "k");
    }
    const wide = search({ group: { hitsPerIdentity: 101 } });
    const { facts } = await refused(wide, "FIELD_INVALID");
    assert.equal(facts["field"], "group.hits_per_identity");
  });
});

describe("Search with rerank", () => {
  const features = (
    hits: readonly { entry: { feature: { f32le: Buffer } | null } | null }[],
  ) => hits.map(({ entry }) => Buffer.from(entry?.feature?.f32le ?? []));

  test("orders the candidates by rising re-ranked distance, and gives both figures", async () => {
    const plain = await search({ k: 20, view: "ENTRY_VIEW_FEATURE" });
    const near = plain.results[0].hits;
    const rows = Buffer.concat([query.feature.f32le, ...features(near)]);
    const settings = { k1: 4, k2: 2, distanceShare: 0.25 };
    const distances = plainRerankedDistances(
      new Float32Array(new Uint8Array(rows).buffer),
      12,
      settings,
    );
    const wanted = [...near.keys()].sort((a, b) => distances[a] - distances[b]);
    const { results } = await search({
      k: 6,
      view: "ENTRY_VIEW_FEATURE",
      rerank: { ...settings, candidates: 20 },
    });
    const { hits } = results[0];
    const chosen = wanted.slice(0, 6);
    assert.deepEqual(
      ids(hits),
      chosen.map((i) => near[i].entry?.entryId),
    );
    assertClose(
      hits.map(({ rerankDistance = NaN }) => rerankDistance),
      chosen.map((i) => distances[i]),
      { abs: 2e-5 },
    );
    assert.deepEqual(
      hits.map(({ similarity }) => similarity),
      chosen.map((i) => near[i].similarity),
    );
    assert.deepEqual(
      features(hits),
      chosen.map((i) => features(near)[i]),
    );
  });

  test("is not there where it was not asked for", async () => {
    const { hits } = (await search({})).results[0];
    assert.ok(hits.every(({ rerankDistance }) => rerankDistance === undefined));
  });

  test("leaves out before it what min_similarity and filters leave out", async () => {
    const few = { minSimilarity: 0.2, filter: { cameraIn: ["1"] }, k: 35 };
    const plain = (await search(few)).results[0].hits;
    const { hits } = (await search({ ...few, rerank: {} })).results[0];
    assert.ok(plain.length > 0);
    assert.deepEqual(ids(hits).sort(), ids(plain).sort());
    const none = await search({ minSimilarity: 1, rerank: {} }, [
      { feature: unitFeature(999) },
    ]);
    assert.deepEqual(none.results[0].hits, []);
  });

  test("answers every query of a call, by entry too, and failures in their places", async () => {
    const { results } = await search({ rerank: {} }, [
      { entryId: "e3" },
      { entryId: "nobody" },
      query,
    ]);
    assert.ok(!ids(results[0].hits).includes("e3"));
    assert.equal(results[1].error?.reason, "ENTRY_NOT_FOUND");
    assert.equal(ids(results[2].hits)[0], "e3");
  });

  test("gives kept crops with view CROP", async () => {
    const { results } = await search(
      { k: 1, view: "ENTRY_VIEW_CROP", rerank: {} },
      [{ crop: noiseCrop(1) }],
    );
    const [{ entry }] = results[0].hits;
    assert.equal(entry?.entryId, "kept");
    assert.ok((entry?.crop.length ?? 0) > 0);
  });

  test("re-ranks first and groups then, by the best distance", async () => {
    const rerank = { candidates: 35 };
    const flat = (await search({ k: 35, rerank })).results[0].hits;
    const { results } = await search({ k: 3, group: {}, rerank });
    const { identities } = results[0];
    const firsts = flat.filter(
      ({ entry }, i) =>
        entry?.identity === "" ||
        flat.findIndex((hit) => hit.entry?.identity === entry?.identity) === i,
    );
    assert.deepEqual(
      identities.map(({ hits }) => [ids(hits)[0], hits[0].rerankDistance]),
      firsts
        .slice(0, 3)
        .map(({ entry, rerankDistance }) => [entry?.entryId, rerankDistance]),
    );
  });

  for (const [field, more] of [
    ["rerank.k1", { rerank: { k1: 101 } }],
    ["rerank.k2", { rerank: { k1: 5, k2: 6 } }],
    ["rerank.distance_share", { rerank: { distanceShare: 1.5 } }],
    ["rerank.distance_share", { rerank: { distanceShare: -0.1 } }],
    ["rerank.candidates", { rerank: { candidates: 4 } }],
    ["rerank.candidates", { rerank: { candidates: 1001 } }],
    ["k", { k: 1001, rerank: {} }],
  ] as const)
    test(`refuses ${JSON.stringify(more)}`, async () => {
      const { facts } = await refused(search(more), "FIELD_INVALID");
      assert.equal(facts["field"], field);
    });

  test("takes the ends of every range", async () => {
    for (const rerank of [
      { k1: 100, k2: 100, distanceShare: 1, candidates: 1000 },
      { k1: 1, k2: 1, distanceShare: 0, candidates: 5 },
      { k1: 3 },
    ])
      assert.equal((await search({ rerank })).results[0].hits.length, 5);
  });
});
