import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { RpcName } from "#serve/rpcs";
import { failedCall, trailersOf } from "../support/raw-call.js";
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

const feature = unitFeature(1);
const search = { gallery: "g", k: 1, queries: [{ feature }] };
const identify = { gallery: "g", feature };
const enroll = { gallery: "g", enrollments: [{ feature }] };

/** Enrols one entry and gives it back as it is kept. */
async function kept(entry: object, more: object = {}) {
  const { results } = await wire.client.GalleryService.Enroll({
    gallery: "g",
    enrollments: [{ feature, entry, ...more }],
  });
  const [{ entryId, error }] = results;
  if (error !== null) return { error, entry: null };
  const got = await wire.client.GalleryService.GetEntry({
    gallery: "g",
    entryId,
    view: "ENTRY_VIEW_FULL",
  });
  return { error, entry: got.entry };
}

describe("an enum's value that there is not", () => {
  const cases: readonly (readonly [RpcName, object, string])[] = [
    ["SearchService/Search", { ...search, mode: 9 }, "mode"],
    ["SearchService/Search", { ...search, view: 9 }, "view"],
    ["SearchService/Search", { ...search, freshness: 9 }, "freshness"],
    ["SearchService/Search", { ...search, priority: 9 }, "priority"],
    [
      "SearchService/Search",
      { ...search, filter: { identified: 9 } },
      "filter.identified",
    ],
    ["SearchService/Identify", { ...identify, enroll: 9 }, "enroll"],
    ["SearchService/Identify", { ...identify, priority: 9 }, "priority"],
    ["GalleryService/Enroll", { ...enroll, onExisting: 9 }, "on_existing"],
    ["GalleryService/Enroll", { ...enroll, priority: 9 }, "priority"],
    [
      "GalleryService/CreateGallery",
      { gallery: { name: "x", modelPolicy: 9 } },
      "gallery.model_policy",
    ],
    [
      "GalleryService/CreateGallery",
      { gallery: { name: "x", cropRetention: 9 } },
      "gallery.crop_retention",
    ],
    [
      "GalleryService/CreateGallery",
      { gallery: { name: "x", index: { flat: {}, storage: 9 } } },
      "gallery.index.storage",
    ],
    [
      "GalleryService/GetEntry",
      { gallery: "g", entryId: "e", view: 9 },
      "view",
    ],
    ["GalleryService/ListEntries", { gallery: "g", view: 9 }, "view"],
    ["OperationService/ListOperations", { kind: 99 }, "kind"],
    ["OperationService/ListOperations", { state: 99 }, "state"],
    ["EmbedService/Embed", { crops: [noiseCrop(1)], encoding: 9 }, "encoding"],
    ["EmbedService/Embed", { crops: [noiseCrop(1)], pooling: 9 }, "pooling"],
    ["EmbedService/Embed", { crops: [noiseCrop(1)], observe: 9 }, "observe"],
    ["EmbedService/Embed", { crops: [noiseCrop(1)], priority: 9 }, "priority"],
  ];
  for (const [name, request, field] of cases)
    test(`is refused as ${field} of ${name}`, async () => {
      const { error } = trailersOf(
        await failedCall(wire.address, name, request),
      );
      assert.equal(error.code, "FIELD_INVALID");
      assert.equal(error.facts["field"], field);
      assert.match(String(error.facts["received"]), /^99?$/);
    });
});

describe("a name", () => {
  const create = (name: string) =>
    wire.client.GalleryService.CreateGallery({ gallery: { name } });

  test("has 1 to 63 of a-z, 0-9, dot, underscore and dash, and begins with a letter or digit", async () => {
    for (const name of ["a", "0", "a.b_c-d", "x".repeat(63)]) {
      assert.equal((await create(name)).gallery?.name, name);
      await wire.client.GalleryService.DeleteGallery({ gallery: name });
    }
    for (const name of [
      ...["", "A", "-a", ".a", "_a", "a b", "é", "a/b", "a\n", "..", "a\u0000"],
      "x".repeat(64),
    ]) {
      const { facts } = await refused(create(name), "FIELD_INVALID");
      assert.equal(facts["field"], "gallery.name", JSON.stringify(name));
    }
  });

  test("that is refused stands in the message shortened, though it has a mebibyte", async () => {
    const failed = await failedCall(wire.address, "GalleryService/GetGallery", {
      gallery: "é".repeat(1 << 19),
    });
    const { error, details } = trailersOf(failed);
    assert.equal(error.code, "FIELD_INVALID");
    assert.ok(details.length <= 4096);
    assert.ok(failed.details.length < 512, failed.details);
  });

  test("of a pinned model is looked at before there is a gallery", async () => {
    for (const call of [
      wire.client.SearchService.Search({
        ...search,
        gallery: "nowhere",
        model: { name: "No Name" },
      }),
      wire.client.SearchService.Identify({
        ...identify,
        gallery: "nowhere",
        model: { name: "No Name" },
      }),
    ]) {
      const { facts } = await refused(call, "FIELD_INVALID");
      assert.equal(facts["field"], "model.name");
    }
  });
});

describe("an id", () => {
  // 128 bytes in 64 and in 32 characters.
  const longest = ["x".repeat(128), "é".repeat(64), "😀".repeat(32)];
  const tooLong = ["x".repeat(129), "é".repeat(64) + "x", "😀".repeat(33)];
  const controls = ["a\u0000", "a\nb", "\u001f", "\u007f", "a\u0080", "\u009f"];
  const fields = {
    entryId: "entry_id",
    identity: "identity",
    cameraId: "camera_id",
    trackId: "track_id",
  } as const;

  for (const [key, field] of Object.entries(fields))
    test(`has at most 128 bytes and no control characters: ${field}`, async () => {
      for (const id of longest) {
        const { entry } = await kept({ [key]: id });
        assert.equal(entry?.[key as keyof typeof fields], id);
      }
      for (const id of [...tooLong, ...controls]) {
        const { error } = await kept({ [key]: id });
        assert.deepEqual(
          [error?.reason, error?.field],
          ["FIELD_INVALID", `enrollments[0].entry.${field}`],
          JSON.stringify(id),
        );
      }
    });

  test("has as many in a crop and a query", async () => {
    const enrolled = await wire.client.GalleryService.Enroll({
      gallery: "g",
      enrollments: ["cropId", "cameraId", "trackId"].map((key) => ({
        crop: { ...noiseCrop(1), [key]: "x".repeat(129) },
      })),
    });
    assert.deepEqual(
      enrolled.results.map(({ error }) => error?.field),
      ["crop_id", "camera_id", "track_id"].map(
        (field, i) => `enrollments[${i}].crop.${field}`,
      ),
    );
    const { results } = await wire.client.SearchService.Search({
      ...search,
      queries: [
        { feature, queryId: longest[1] },
        { feature, queryId: tooLong[1] },
        { entryId: tooLong[0] },
      ],
    });
    assert.deepEqual(
      results.map(({ queryId, error }) => error?.field ?? queryId),
      [longest[1], "queries[1].query_id", "queries[2].entry_id"],
    );
  });

  test("is compared byte by byte: what only looks the same is another", async () => {
    const { GalleryService } = wire.client;
    // é as one character, and as e with an accent behind it; a Latin and a Greek letter; with a space.
    const ids = ["\u00e9", "e\u0301", "A", "\u0391", "A ", "a"];
    await GalleryService.CreateGallery({ gallery: { name: "alike" } });
    await GalleryService.Enroll({
      gallery: "alike",
      enrollments: ids.map((id, i) => ({
        feature: unitFeature(i),
        entry: { entryId: id, identity: id, cameraId: id },
      })),
    });
    const inBytes = ids.toSorted((a, b) =>
      Buffer.compare(Buffer.from(a), Buffer.from(b)),
    );
    const { identities } = await GalleryService.ListIdentities({
      gallery: "alike",
    });
    assert.deepEqual(
      identities.map(({ identity }) => identity),
      inBytes,
    );
    for (const id of ids) {
      const { entries } = await GalleryService.ListEntries({
        gallery: "alike",
        filter: { cameraIn: [id], identityIn: [id] },
      });
      assert.deepEqual(
        entries.map(({ entryId }) => entryId),
        [id],
      );
    }
  });

  test("of an entry is a ULID where there is none, and identity and camera may be missing", async () => {
    const { entry } = await kept({});
    assert.match(entry?.entryId ?? "", /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
    assert.deepEqual([entry?.identity, entry?.cameraId], ["", ""]);
  });
});

describe("a time", () => {
  const at = (seconds: string, nanos: number) => ({ seconds, nanos });

  test("is kept to the microsecond, and what is finer is cut", async () => {
    const { entry } = await kept({
      capturedAt: at("1700000000", 123_456_789),
      expiresAt: at("9007199253", 999_999_999),
    });
    assert.deepEqual(
      [{ ...entry?.capturedAt }, { ...entry?.expiresAt }],
      [at("1700000000", 123_456_000), at("9007199253", 999_999_000)],
    );
  });

  test("begins a range that it is in, and ends one that it is not in", async () => {
    const { GalleryService } = wire.client;
    await GalleryService.CreateGallery({ gallery: { name: "timed" } });
    await GalleryService.Enroll({
      gallery: "timed",
      enrollments: [0, 1, 2].map((us) => ({
        feature: unitFeature(us),
        entry: { entryId: `e${us}`, capturedAt: at("7", us * 1000) },
      })),
    });
    const within = async (captured: object) =>
      (
        await GalleryService.ListEntries({
          gallery: "timed",
          filter: { captured },
        })
      ).entries.map(({ entryId }) => entryId);
    assert.deepEqual(
      await within({ start: at("7", 1000), end: at("7", 2000) }),
      ["e1"],
    );
    assert.deepEqual(await within({ start: at("7", 1000) }), ["e1", "e2"]);
    assert.deepEqual(await within({ end: at("7", 1000) }), ["e0"]);
  });

  test("is one from 1970 to 2255, with whole nanoseconds of its second", async () => {
    for (const capturedAt of [
      at("-1", 0),
      at("9007199254", 0),
      at("1", -1),
      at("1", 1_000_000_000),
    ]) {
      const { error } = await kept({ capturedAt });
      assert.equal(error?.field, "enrollments[0].entry.captured_at");
    }
  });
});

describe("attributes", () => {
  const many = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, ""]));

  test("are at most 16, keys of 32 characters and values of 128 bytes", async () => {
    const largest = {
      ...many(14),
      [`k${"_".repeat(31)}`]: "é".repeat(64),
      // No other attribute: a name that every object has.
      constructor: "red",
    };
    const { entry } = await kept({ attributes: largest });
    assert.deepEqual({ ...entry?.attributes }, largest);
    for (const [attributes, field] of [
      [many(17), "attributes"],
      [{ [`k${"_".repeat(32)}`]: "" }, "attributes"],
      [{ "": "x" }, "attributes"],
      [{ Hat: "x" }, "attributes"],
      [{ "0": "x" }, "attributes"],
      [{ __proto__x: "x" }, "attributes"],
      [{ hat: "x".repeat(129) }, "attributes[hat]"],
    ] as const) {
      const { error } = await kept({ attributes });
      assert.equal(error?.field, `enrollments[0].entry.${field}`);
    }
  });

  test("that an entry has not pass none_of and fail any_of, whatever their name", async () => {
    const found = async (condition: object) =>
      (
        await wire.client.GalleryService.ListEntries({
          gallery: "g",
          pageSize: 1000,
          filter: { attributes: [{ key: "constructor", ...condition }] },
        })
      ).entries.length;
    const { entries } = await wire.client.GalleryService.ListEntries({
      gallery: "g",
      pageSize: 1000,
    });
    assert.equal(await found({ anyOf: ["red"] }), 1);
    assert.equal(await found({ noneOf: ["red"] }), entries.length - 1);
  });
});

describe("the order of checks", () => {
  const broken = { feature: { ...feature, f32le: Buffer.alloc(4) } };
  const cases: readonly (readonly [string, RpcName, object, string])[] = [
    [
      "the envelope before the gallery",
      "SearchService/Search",
      { ...search, gallery: "nowhere", k: 0 },
      "FIELD_INVALID",
    ],
    [
      "the envelope before the gallery",
      "SearchService/Identify",
      { ...identify, gallery: "nowhere", priority: 9 },
      "FIELD_INVALID",
    ],
    [
      "the envelope before the gallery",
      "GalleryService/Enroll",
      { ...enroll, gallery: "nowhere", requestId: "no uuid" },
      "FIELD_INVALID",
    ],
    [
      "the envelope before the gallery",
      "GalleryService/UpdateGallery",
      { gallery: { name: "nowhere" }, updateMask: { paths: ["name"] } },
      "FIELD_INVALID",
    ],
    [
      "the gallery before the items",
      "SearchService/Search",
      { ...search, gallery: "nowhere", queries: [{}] },
      "GALLERY_NOT_FOUND",
    ],
    [
      "the gallery before the items",
      "SearchService/Identify",
      { gallery: "nowhere" },
      "GALLERY_NOT_FOUND",
    ],
    [
      "the gallery before its state",
      "SearchService/Search",
      { ...search, gallery: "nowhere", minSequence: "99999" },
      "GALLERY_NOT_FOUND",
    ],
    [
      "the pin before the items",
      "SearchService/Identify",
      { gallery: "g", ...broken, model: { name: "door", version: 2 } },
      "MODEL_MISMATCH",
    ],
    [
      "the state before the items",
      "SearchService/Identify",
      { gallery: "g", ...broken, minSequence: "99999" },
      "SEQUENCE_AHEAD",
    ],
    [
      "the state before the items",
      "SearchService/Search",
      { ...search, queries: [{ entryId: "none" }], minSequence: "99999" },
      "SEQUENCE_AHEAD",
    ],
  ];
  for (const [what, name, request, reason] of cases)
    test(`is ${what} in ${name}: ${reason}`, async () => {
      const { error } = trailersOf(
        await failedCall(wire.address, name, request),
      );
      assert.equal(error.code, reason, error.message);
    });
});
