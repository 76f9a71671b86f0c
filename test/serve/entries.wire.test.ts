import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { SteppedClock } from "../support/galleries.js";
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

const service = () => wire.client.GalleryService;

interface Fields {
  readonly entryId: string;
  readonly identity?: string;
  readonly cameraId?: string;
  readonly capturedAt?: { readonly seconds: string };
  readonly attributes?: Readonly<Record<string, string>>;
}

/** A gallery of its own, with one feature for each entry. */
async function made(
  gallery: string,
  entries: readonly Fields[],
  more: object = {},
): Promise<void> {
  await service().CreateGallery({
    gallery: { name: gallery, index: { hnsw: {} }, ...more },
  });
  if (entries.length === 0) return;
  await service().Enroll({
    gallery,
    enrollments: entries.map((entry, i) => ({
      entry,
      feature: unitFeature(i),
    })),
  });
}

const seconds = (at: number) => ({ seconds: String(at) });

/** Identity, entry count and cameras of every identity, all pages. */
async function identitiesOf(gallery: string, more: object = {}) {
  const found: string[] = [];
  let pageToken = "";
  do {
    const page = await service().ListIdentities({
      gallery,
      pageToken,
      ...more,
    });
    for (const { identity, entryCount, cameraIds } of page.identities)
      found.push(`${identity} ${entryCount} ${cameraIds.join(",")}`);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

describe("ListIdentities", () => {
  test("gives counts, cameras and times by identity in byte order, over entries that pass the filter", async () => {
    await made("people", [
      { entryId: "1", identity: "b", cameraId: "2", capturedAt: seconds(50) },
      { entryId: "2", identity: "a", cameraId: "10", capturedAt: seconds(7) },
      { entryId: "3", identity: "a", cameraId: "2", capturedAt: seconds(5) },
      { entryId: "4", identity: "a", cameraId: "2" },
      { entryId: "5", identity: "é" },
      { entryId: "6", cameraId: "2" },
      { entryId: "7", identity: "Z" },
    ]);
    assert.deepEqual(await identitiesOf("people"), [
      "Z 1 ",
      "a 3 10,2",
      "b 1 2",
      "é 1 ",
    ]);
    const { identities } = await service().ListIdentities({
      gallery: "people",
    });
    const times = identities.map(({ captured }) => [
      captured?.start?.seconds,
      captured?.end?.seconds,
      captured?.end?.nanos,
    ]);
    assert.deepEqual(times, [
      [undefined, undefined, undefined],
      ["5", "7", 1000],
      ["50", "50", 1000],
      [undefined, undefined, undefined],
    ]);
    assert.deepEqual(
      await identitiesOf("people", { filter: { cameraIn: ["2"] } }),
      ["a 2 2", "b 1 2"],
    );
    assert.deepEqual(
      await identitiesOf("people", { filter: { identityIn: ["nobody"] } }),
      [],
    );
  });

  test("lists the first 32 cameras", async () => {
    await made(
      "seen",
      Array.from({ length: 40 }, (_, i) => ({
        entryId: `${i}`,
        identity: "p",
        cameraId: String(i).padStart(2, "0"),
      })),
    );
    const { identities } = await service().ListIdentities({ gallery: "seen" });
    assert.equal(identities[0].entryCount, "40");
    assert.deepEqual(
      identities[0].cameraIds,
      Array.from({ length: 32 }, (_, i) => String(i).padStart(2, "0")),
    );
  });

  test("goes on behind the last identity of a page, whatever is written meanwhile", async () => {
    await made(
      "paged",
      ["a", "b", "c", "d", "e"].map((identity) => ({
        entryId: identity,
        identity,
      })),
    );
    const first = await service().ListIdentities({
      gallery: "paged",
      pageSize: 2,
    });
    assert.deepEqual(
      first.identities.map(({ identity }) => identity),
      ["a", "b"],
    );
    // One before the cursor comes, the one at the cursor and the next go, one behind comes.
    await service().Enroll({
      gallery: "paged",
      enrollments: ["aa", "cc"].map((identity, i) => ({
        entry: { entryId: identity, identity },
        feature: unitFeature(20 + i),
      })),
    });
    await service().DeleteEntries({
      gallery: "paged",
      selector: { entryIds: ["b", "c"] },
    });
    const rest = await service().ListIdentities({
      gallery: "paged",
      pageToken: first.nextPageToken,
    });
    assert.deepEqual(
      rest.identities.map(({ identity }) => identity),
      ["cc", "d", "e"],
    );
    assert.equal(rest.nextPageToken, "");
  });

  test("refuses bad names, unknown galleries, too many values and tokens of other requests", async () => {
    await made("asked", [
      { entryId: "1", identity: "a" },
      { entryId: "2", identity: "b" },
    ]);
    const list = (request: object) =>
      service().ListIdentities({ gallery: "asked", ...request });
    const { nextPageToken } = await list({ pageSize: 1 });
    assert.notEqual(nextPageToken, "");
    await refused(list({ gallery: "No Name" }), "FIELD_INVALID");
    await refused(list({ gallery: "nowhere" }), "GALLERY_NOT_FOUND");
    const tooMany = Array.from({ length: 1001 }, (_, i) => `${i}`);
    const error = await refused(
      list({ filter: { trackIn: tooMany } }),
      "FIELD_INVALID",
    );
    assert.equal(error.facts["field"], "filter.track_in");
    for (const request of [
      { filter: { cameraIn: ["1"] }, pageToken: nextPageToken },
      { gallery: "people", pageToken: nextPageToken },
      { pageToken: "rubbish" },
    ])
      await refused(list(request), "PAGE_TOKEN_INVALID");
    await refused(
      service().ListEntries({ gallery: "asked", pageToken: nextPageToken }),
      "PAGE_TOKEN_INVALID",
    );
  });
});

describe("UpdateEntries", () => {
  const update = (gallery: string, selector: object, entry: object) =>
    service().UpdateEntries({
      gallery,
      selector,
      entry,
      updateMask: {
        paths: Object.keys(entry).map((field) =>
          field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
        ),
      },
    });

  test("renames, merges and splits identities, and searches and later starts see it", async () => {
    const names = ["a", "a", "b", "c"];
    await made(
      "renamed",
      names.map((identity, i) => ({ entryId: `e${i}`, identity })),
    );
    const renamed = await update(
      "renamed",
      { identity: "a" },
      {
        identity: "anna",
      },
    );
    assert.deepEqual([renamed.updatedCount, renamed.sequence], ["2", "6"]);
    assert.deepEqual(await identitiesOf("renamed"), [
      "anna 2 ",
      "b 1 ",
      "c 1 ",
    ]);

    const merged = await update(
      "renamed",
      { filter: { identityIn: ["b", "c"] } },
      { identity: "anna" },
    );
    assert.deepEqual([merged.updatedCount, merged.sequence], ["2", "8"]);
    assert.deepEqual(await identitiesOf("renamed"), ["anna 4 "]);

    const split = await update(
      "renamed",
      { entryIds: ["e3", "none", "e3"] },
      {
        identity: "carl",
      },
    );
    assert.deepEqual([split.updatedCount, split.sequence], ["1", "9"]);
    assert.deepEqual(await identitiesOf("renamed"), ["anna 3 ", "carl 1 "]);

    const { results } = await wire.client.SearchService.Search({
      gallery: "renamed",
      k: 5,
      queries: [{ feature: unitFeature(3) }],
      filter: { identityNotIn: ["anna"] },
      minSequence: "9",
    });
    assert.equal(results[0].hits.length, 1);
    const [{ entry, similarity }] = results[0].hits;
    assert.deepEqual(
      [entry?.entryId, entry?.identity, entry?.sequence],
      ["e3", "carl", "9"],
    );
    assert.ok(similarity > 0.99999);
    const { gallery } = await service().GetGallery({ gallery: "renamed" });
    assert.deepEqual(
      [gallery?.entryCount, gallery?.identityCount, gallery?.sequence],
      ["4", "2", "9"],
    );
    const page = await service().ListEntries({ gallery: "renamed" });
    assert.deepEqual(
      page.entries.map(({ entryId, sequence }) => `${entryId} ${sequence}`),
      ["e0 5", "e1 6", "e2 7", "e3 9"],
    );
  });

  test("changes what the mask names, takes away what the entry leaves out, and keeps feature and crop", async () => {
    await made("masked", [], { cropRetention: "CROP_RETENTION_KEEP" });
    await service().Enroll({
      gallery: "masked",
      enrollments: [
        {
          crop: { ...noiseCrop(4), cameraId: "1", trackId: "t" },
          entry: {
            entryId: "e",
            identity: "p",
            attributes: { hat: "red", bag: "blue" },
          },
        },
      ],
    });
    const get = async (view: "ENTRY_VIEW_FEATURE" | "ENTRY_VIEW_CROP") =>
      (await service().GetEntry({ gallery: "masked", entryId: "e", view }))
        .entry;
    const before = [
      await get("ENTRY_VIEW_FEATURE"),
      await get("ENTRY_VIEW_CROP"),
    ];
    await service().UpdateEntries({
      gallery: "masked",
      selector: { entryIds: ["e"] },
      entry: {
        identity: "not named",
        cameraId: "7",
        attributes: { hat: "green", shoe: "not named" },
        expiresAt: { seconds: "9000000000" },
      },
      updateMask: {
        paths: [
          "camera_id",
          "track_id",
          "captured_at",
          "expires_at",
          "attributes.hat",
          "attributes.bag",
        ],
      },
    });
    const entry = await get("ENTRY_VIEW_FEATURE");
    assert.deepEqual(
      {
        identity: entry?.identity,
        cameraId: entry?.cameraId,
        trackId: entry?.trackId,
        capturedAt: entry?.capturedAt,
        expiresAt: entry?.expiresAt?.seconds,
        attributes: { ...entry?.attributes },
        sequence: entry?.sequence,
      },
      {
        identity: "p",
        cameraId: "7",
        trackId: "",
        capturedAt: null,
        expiresAt: "9000000000",
        attributes: { hat: "green" },
        sequence: "2",
      },
    );
    assert.deepEqual(entry?.feature, before[0]?.feature);
    assert.deepEqual(entry?.enrolledAt, before[0]?.enrolledAt);
    const kept = (await get("ENTRY_VIEW_CROP"))?.crop;
    assert.ok((kept?.length ?? 0) > 0);
    assert.deepEqual(kept, before[1]?.crop);

    await service().UpdateEntries({
      gallery: "masked",
      selector: { filter: { attributes: [{ key: "hat", anyOf: ["green"] }] } },
      entry: { attributes: { coat: "long" } },
      updateMask: { paths: ["attributes", "expires_at"] },
    });
    const after = await get("ENTRY_VIEW_FEATURE");
    assert.deepEqual({ ...after?.attributes }, { coat: "long" });
    assert.equal(after?.expiresAt, null);
  });

  test("refuses to give an entry more attributes than may be, and then updates none", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [`k${i}`, "v"]),
    );
    await made("full", [
      { entryId: "few", identity: "p" },
      { entryId: "many", identity: "p", attributes: many },
    ]);
    const call = (key: string) =>
      service().UpdateEntries({
        gallery: "full",
        selector: { identity: "p" },
        entry: { attributes: { [key]: "w" } },
        updateMask: { paths: [`attributes.${key}`] },
      });
    const error = await refused(call("k16"), "FIELD_INVALID");
    assert.match(error.message, /"many".*at most 16/);
    const { gallery } = await service().GetGallery({ gallery: "full" });
    assert.equal(gallery?.sequence, "2");
    assert.equal((await call("k0")).updatedCount, "2");
  });

  test("refuses bad masks, selectors and values, with the field's name", async () => {
    await made("checked", [{ entryId: "e", identity: "p" }]);
    const call = (more: object) =>
      service().UpdateEntries({
        gallery: "checked",
        selector: { identity: "p" },
        entry: { identity: "q" },
        updateMask: { paths: ["identity"] },
        ...more,
      });
    const long = "x".repeat(129);
    const cases: readonly (readonly [object, string])[] = [
      [{ updateMask: null }, "update_mask"],
      [{ updateMask: { paths: [] } }, "update_mask"],
      [{ updateMask: { paths: ["entry_id"] } }, "update_mask"],
      [{ updateMask: { paths: ["feature"] } }, "update_mask"],
      [{ updateMask: { paths: ["toString"] } }, "update_mask"],
      [{ updateMask: { paths: ["attributes.Not A Key"] } }, "update_mask"],
      [{ updateMask: { paths: ["attributes."] } }, "update_mask"],
      [{ entry: null }, "entry"],
      [{ entry: { identity: long } }, "entry.identity"],
      [{ entry: { identity: "a\nb" } }, "entry.identity"],
      [
        {
          entry: { capturedAt: { seconds: "-1" } },
          updateMask: { paths: ["captured_at"] },
        },
        "entry.captured_at",
      ],
      [
        {
          entry: { attributes: { Hat: "x" } },
          updateMask: { paths: ["attributes"] },
        },
        "entry.attributes",
      ],
      [{ selector: null }, "selector"],
      [{ selector: {} }, "selector"],
      [{ selector: { identity: "p", entryIds: ["e"] } }, "selector"],
      [{ selector: { entryIds: [""] } }, "selector.entry_ids[0]"],
      [
        { selector: { entryIds: Array.from({ length: 1001 }, () => "e") } },
        "selector.entry_ids",
      ],
      [{ selector: { identity: long } }, "selector.identity"],
      [{ gallery: "No Name" }, "gallery"],
    ];
    for (const [more, field] of cases) {
      const error = await refused(call(more), "FIELD_INVALID");
      assert.equal(error.facts["field"], field, JSON.stringify(more));
    }
    await refused(call({ selector: { filter: {} } }), "FILTER_EMPTY");
    await refused(
      call({ selector: { filter: { captured: {}, attributes: [] } } }),
      "FILTER_EMPTY",
    );
    await refused(call({ gallery: "nowhere" }), "GALLERY_NOT_FOUND");
    const { entry } = await service().GetEntry({
      gallery: "checked",
      entryId: "e",
    });
    assert.deepEqual([entry?.identity, entry?.sequence], ["p", "1"]);
    const none = await call({ selector: { identity: "nobody" } });
    assert.deepEqual([none.updatedCount, none.sequence], ["0", "1"]);
  });
});

describe("entries that expire", () => {
  test("are invisible from then on and deleted within a minute: by expires_at, ttl, default_ttl and update", async () => {
    const clock = new SteppedClock();
    const own = await startWireServer({}, { clock });
    try {
      const { GalleryService, SearchService } = own.client;
      const nowS = clock.timeMs / 1000;
      await GalleryService.CreateGallery({
        gallery: { name: "g", defaultTtl: { seconds: "300" } },
      });
      const feature = (seed: number) => ({ feature: unitFeature(seed) });
      await GalleryService.Enroll({
        gallery: "g",
        enrollments: [
          { ...feature(1), entry: { entryId: "default", identity: "a" } },
          { ...feature(2), entry: { entryId: "ttl" }, ttl: { seconds: "100" } },
          {
            ...feature(3),
            entry: { entryId: "at", expiresAt: { seconds: `${nowS + 200}` } },
          },
          { ...feature(4), entry: { entryId: "updated", identity: "b" } },
          { ...feature(5), entry: { entryId: "kept", identity: "c" } },
        ],
      });
      const expire = (entryId: string, at: number | undefined) =>
        GalleryService.UpdateEntries({
          gallery: "g",
          selector: { entryIds: [entryId] },
          entry:
            at === undefined ? {} : { expiresAt: { seconds: `${nowS + at}` } },
          updateMask: { paths: ["expires_at"] },
        });
      await expire("updated", 50);
      await expire("kept", undefined);
      const visible = async () => {
        const { entries } = await GalleryService.ListEntries({ gallery: "g" });
        const { results } = await SearchService.Search({
          gallery: "g",
          k: 9,
          queries: [feature(9)],
        });
        const listed = entries.map(({ entryId }) => entryId);
        const found = results[0].hits.map(({ entry }) => entry?.entryId ?? "");
        assert.deepEqual(found.toSorted(), listed.toSorted());
        for (const entryId of ["default", "ttl", "at", "updated", "kept"])
          if (!listed.includes(entryId))
            await refused(
              GalleryService.GetEntry({ gallery: "g", entryId }),
              "ENTRY_NOT_FOUND",
            );
        const page = await GalleryService.ListIdentities({ gallery: "g" });
        const people = page.identities.map(({ identity }) => identity);
        return [...listed.toSorted(), ...people].join(" ");
      };
      const at = async (seconds: number) => {
        clock.timeMs = (nowS + seconds) * 1000;
        return visible();
      };
      assert.equal(await at(49), "at default kept ttl updated a b c");
      assert.equal(await at(50), "at default kept ttl a c");
      assert.equal(await at(100), "at default kept a c");
      assert.equal(await at(200), "default kept a c");
      assert.equal(await at(300), "kept c");
      // Any write takes them along; without one the sweep does, twice a minute.
      const kept = await expire("kept", undefined);
      const { gallery } = await GalleryService.GetGallery({ gallery: "g" });
      assert.deepEqual(
        [gallery?.entryCount, gallery?.identityCount, gallery?.sequence],
        ["1", "1", kept.sequence],
      );
      assert.equal(kept.sequence, "12");
    } finally {
      await own.close();
    }
  });
});
