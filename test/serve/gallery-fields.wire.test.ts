import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { cropFromRaw, decodeCrop, encodePng } from "#core/image";
import { SteppedClock } from "../support/galleries.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const clock = new SteppedClock();
let wire: WireServer;
before(async () => {
  wire = await startWireServer({ limits: { dimension: 64 } });
});
after(() => wire.close());

const service = () => wire.client.GalleryService;
let made = 0;
/** A gallery of its own. */
async function newGallery(more: object = {}): Promise<string> {
  const name = `g${made++}`;
  await service().CreateGallery({
    gallery: { name, index: { flat: {} }, ...more },
  });
  return name;
}
const raw = {
  data: noiseCrop(3).raw.data,
  format: "rgb8" as const,
  widthPx: 10,
  heightPx: 20,
};

describe("a gallery that is made", () => {
  const defaults = {
    modelPolicy: "MODEL_POLICY_PINNED",
    dimension: 12,
    cropRetention: "CROP_RETENTION_NONE",
    defaultTtl: null,
    maxEntries: "1000000",
    tags: {},
    state: "GALLERY_STATE_READY",
    entryCount: "0",
    identityCount: "0",
    sequence: "0",
    indexedSequence: "0",
    operationId: "",
  };

  test("has a default for every field that is left out", async () => {
    const stepped = await startWireServer({}, { clock });
    try {
      const { GalleryService } = stepped.client;
      const { gallery } = await GalleryService.CreateGallery({
        gallery: { name: "plain" },
      });
      assert.ok(gallery !== null);
      const { name, model, index, sizeBytes, createdAt, tags, ...rest } =
        gallery;
      assert.deepEqual({ ...rest, tags: { ...tags } }, defaults);
      assert.equal(name, "plain");
      assert.deepEqual({ ...model }, { name: "door", version: 1 });
      assert.notEqual(index?.flat ?? null, null);
      assert.match(sizeBytes, /^\d+$/);
      assert.equal(Number(createdAt?.seconds), clock.timeMs / 1000);
      const shown = await GalleryService.GetGallery({ gallery: "plain" });
      assert.deepEqual(shown.gallery, gallery);
    } finally {
      await stepped.close();
    }
  });

  test("has those of the configuration where it names them", async () => {
    const own = await startWireServer({
      gallery: { crop_retention: "keep" },
      index: { max_entries: 5 },
      limits: { dimension: 16 },
    });
    try {
      const { GalleryService } = own.client;
      const { gallery } = await GalleryService.CreateGallery({
        gallery: { name: "configured" },
      });
      assert.deepEqual(
        [gallery?.cropRetention, gallery?.maxEntries],
        ["CROP_RETENTION_KEEP", "5"],
      );
      const refusal = GalleryService.CreateGallery({
        gallery: {
          name: "wide",
          model: { name: "external", version: 1 },
          dimension: 17,
        },
      });
      const { facts } = await refused(refusal, "FIELD_INVALID");
      assert.deepEqual(
        [facts["field"], facts["maximum"]],
        ["gallery.dimension", "16"],
      );
    } finally {
      await own.close();
    }
  });

  const model = { name: "external", version: 1 };
  const tags = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, "v"]));
  for (const [what, field, taken, refusedOnes] of [
    [
      "default_ttl of a minute to ten years",
      "gallery.default_ttl",
      [
        { defaultTtl: { seconds: "60" } },
        { defaultTtl: { seconds: "315360000" } },
      ],
      [
        { defaultTtl: { seconds: "59", nanos: 999_000_000 } },
        { defaultTtl: { seconds: "346896000" } },
        { defaultTtl: { seconds: "-60" } },
      ],
    ],
    [
      "at most 16 tags",
      "gallery.tags",
      [{ tags: tags(16) }],
      [{ tags: tags(17) }],
    ],
    [
      "a dimension up to the limit",
      "gallery.dimension",
      [
        { model, dimension: 1 },
        { model, dimension: 64 },
      ],
      [{ model, dimension: 65 }, { model }],
    ],
    [
      "a version of its own where features are made elsewhere",
      "gallery.model.version",
      [{ model: { name: "external", version: 7 }, dimension: 3 }],
      [{ model: { name: "external" }, dimension: 3 }],
    ],
    [
      "as many entries as a number can count",
      "gallery.max_entries",
      [{ maxEntries: "9007199254740991" }],
      [
        { maxEntries: "9007199254740992" },
        { maxEntries: "18446744073709551615" },
      ],
    ],
    [
      "4 to 128 neighbours in its graph",
      "gallery.index.hnsw.m",
      [{ index: { hnsw: { m: 4 } } }, { index: { hnsw: { m: 128 } } }],
      [{ index: { hnsw: { m: 3 } } }, { index: { hnsw: { m: 129 } } }],
    ],
    [
      "8 to 2000 looked at when one is linked",
      "gallery.index.hnsw.ef_construction",
      [{ index: { hnsw: { efConstruction: 8 } } }],
      [
        { index: { hnsw: { efConstruction: 7 } } },
        { index: { hnsw: { efConstruction: 2001 } } },
      ],
    ],
    [
      "up to 10,000 looked at when one is searched for",
      "gallery.index.hnsw.ef_search",
      [
        { index: { hnsw: { efSearch: 1 } } },
        { index: { hnsw: { efSearch: 10_000 } } },
      ],
      [{ index: { hnsw: { efSearch: 10_001 } } }],
    ],
  ] as const)
    test(`takes ${what}`, async () => {
      for (const more of taken) await newGallery(more);
      for (const more of refusedOnes) {
        const { facts } = await refused(newGallery(more), "FIELD_INVALID");
        assert.equal(facts["field"], field, JSON.stringify(more));
      }
    });

  test("counts its entries, identities and writes", async () => {
    const gallery = await newGallery();
    await service().Enroll({
      gallery,
      enrollments: ["a", "a", "b", ""].map((identity, i) => ({
        feature: unitFeature(i),
        entry: { identity },
      })),
    });
    const shown = (await service().GetGallery({ gallery })).gallery;
    assert.deepEqual(
      [
        ...[shown?.entryCount, shown?.identityCount],
        ...[shown?.sequence, shown?.indexedSequence],
      ],
      ["4", "2", "4", "4"],
    );
    // Behind the writes, which do not wait for it.
    let sizeBytes = 0;
    while (sizeBytes < 4 * 12 * 4)
      sizeBytes = Number(
        (await service().GetGallery({ gallery })).gallery?.sizeBytes,
      );
  });
});

describe("a kept crop", () => {
  const cropOf = async (gallery: string, entryId: string) =>
    (
      await service().GetEntry({
        gallery,
        entryId,
        view: "ENTRY_VIEW_CROP",
      })
    ).entry?.crop ?? Buffer.alloc(0);

  test("is the file as it came, raw pixels as PNG, and nothing where none are kept", async () => {
    const file = Buffer.from(await encodePng(await cropFromRaw(raw)));
    const keeping = await newGallery({ cropRetention: "CROP_RETENTION_KEEP" });
    const forgetting = await newGallery({
      cropRetention: "CROP_RETENTION_NONE",
    });
    const enrollments = [
      { crop: { encoded: file }, entry: { entryId: "file" } },
      { crop: noiseCrop(3), entry: { entryId: "raw" } },
      { feature: unitFeature(1), entry: { entryId: "feature" } },
    ];
    for (const gallery of [keeping, forgetting])
      await service().Enroll({ gallery, enrollments });
    assert.ok((await cropOf(keeping, "file")).equals(file));
    const png = await cropOf(keeping, "raw");
    assert.equal(png.subarray(1, 4).toString("latin1"), "PNG");
    const [own, sent] = [await decodeCrop(png), await cropFromRaw(raw)];
    assert.deepEqual(Buffer.from(own.data), Buffer.from(sent.data));
    assert.equal((await cropOf(keeping, "feature")).length, 0);
    for (const { entry } of enrollments)
      assert.equal((await cropOf(forgetting, entry.entryId)).length, 0);
  });

  test("is kept from the update on that says so", async () => {
    const gallery = await newGallery();
    const enroll = (entryId: string) =>
      service().Enroll({
        gallery,
        enrollments: [{ crop: noiseCrop(1), entry: { entryId } }],
      });
    await enroll("before");
    await service().UpdateGallery({
      gallery: { name: gallery, cropRetention: "CROP_RETENTION_KEEP" },
      updateMask: { paths: ["crop_retention"] },
    });
    await enroll("after");
    assert.equal((await cropOf(gallery, "before")).length, 0);
    assert.ok((await cropOf(gallery, "after")).length > 0);
  });
});

describe("an entry that is enrolled", () => {
  const enroll = (gallery: string, enrollments: object[], more: object = {}) =>
    service().Enroll({ gallery, enrollments, ...more });
  const get = async (gallery: string, entryId: string) =>
    (await service().GetEntry({ gallery, entryId, view: "ENTRY_VIEW_FULL" }))
      .entry;

  test("under an id that is there replaces it, is left out or fails, as on_existing says", async () => {
    const gallery = await newGallery();
    const one = (identity: string, onExisting: string) =>
      enroll(
        gallery,
        [{ feature: unitFeature(1), entry: { entryId: "e", identity } }],
        { onExisting },
      );
    const outcome = async (identity: string, onExisting: string) => {
      const { results } = await one(identity, onExisting);
      const [{ entryId, sequence, error }] = results;
      const entry = await get(gallery, "e");
      return [
        entryId,
        sequence,
        error?.reason,
        entry?.identity,
        entry?.sequence,
      ];
    };
    for (const [identity, onExisting, ...wanted] of [
      ["a", "ON_EXISTING_UNSPECIFIED", "e", "1", undefined, "a", "1"],
      ["b", "ON_EXISTING_UNSPECIFIED", "e", "2", undefined, "b", "2"],
      ["c", "ON_EXISTING_KEEP", "e", "2", undefined, "b", "2"],
      ["d", "ON_EXISTING_FAIL", "", "0", "ENTRY_EXISTS", "b", "2"],
      ["f", "ON_EXISTING_REPLACE", "e", "3", undefined, "f", "3"],
    ] as const)
      assert.deepEqual(await outcome(identity, onExisting), wanted, onExisting);
  });

  test("twice in one message is the last of the two, each with its sequence", async () => {
    const gallery = await newGallery();
    const { results, sequence } = await enroll(
      gallery,
      ["first", "last"].map((identity, i) => ({
        feature: unitFeature(i),
        entry: { entryId: "e", identity },
      })),
    );
    assert.deepEqual(
      results.map((one) => one.sequence),
      ["1", "2"],
    );
    assert.equal(sequence, "2");
    assert.equal((await get(gallery, "e"))?.identity, "last");
  });

  test("has its crop's camera, time and track where it has none of its own", async () => {
    const gallery = await newGallery();
    const crop = {
      ...noiseCrop(1),
      cameraId: "crop's",
      trackId: "t1",
      capturedAt: { seconds: "7" },
    };
    await enroll(gallery, [
      { crop, entry: { entryId: "bare" } },
      {
        crop,
        entry: {
          entryId: "own",
          cameraId: "own",
          trackId: "t2",
          capturedAt: { seconds: "8" },
        },
      },
    ]);
    const shown = async (entryId: string) => {
      const entry = await get(gallery, entryId);
      return [entry?.cameraId, entry?.trackId, entry?.capturedAt?.seconds];
    };
    assert.deepEqual(await shown("bare"), ["crop's", "t1", "7"]);
    assert.deepEqual(await shown("own"), ["own", "t2", "8"]);
  });

  test("lives for its ttl, counted from enrolment, whatever expires_at says", async () => {
    const stepped = await startWireServer({}, { clock });
    try {
      const { GalleryService } = stepped.client;
      await GalleryService.CreateGallery({ gallery: { name: "g" } });
      await GalleryService.Enroll({
        gallery: "g",
        enrollments: [
          {
            feature: unitFeature(1),
            entry: { entryId: "e", expiresAt: { seconds: "9000000000" } },
            ttl: { seconds: "90", nanos: 5_000_000 },
          },
        ],
      });
      const { entry } = await GalleryService.GetEntry({
        gallery: "g",
        entryId: "e",
      });
      const endMs = clock.timeMs + 90_005;
      assert.deepEqual(
        [entry?.expiresAt?.seconds, entry?.expiresAt?.nanos],
        [String(Math.floor(endMs / 1000)), (endMs % 1000) * 1e6],
      );
    } finally {
      await stepped.close();
    }
  });

  test("is visible together with the others of its message, or not yet", async () => {
    const gallery = await newGallery();
    const enrollments = Array.from({ length: 256 }, (_, i) => ({
      feature: unitFeature(i),
    }));
    let isDone = false;
    const seen = new Set<number>();
    const watching = (async () => {
      while (!isDone) {
        const { entries } = await service().ListEntries({
          gallery,
          pageSize: 1000,
        });
        seen.add(entries.length);
      }
    })();
    for (let call = 0; call < 3; call++) await enroll(gallery, enrollments);
    isDone = true;
    await watching;
    for (const count of seen) assert.equal(count % 256, 0, `${count} entries`);
  });

  test("fails alone, and where all of a message fail the answer is OK and nothing is written", async () => {
    const gallery = await newGallery();
    const { results, sequence, model } = await enroll(gallery, [{}, {}]);
    assert.deepEqual(
      results.map(({ error }) => error?.reason),
      ["FIELD_INVALID", "FIELD_INVALID"],
    );
    assert.equal(sequence, "0");
    assert.deepEqual({ ...model }, { name: "door", version: 1 });
  });
});
