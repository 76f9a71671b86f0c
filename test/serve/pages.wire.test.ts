import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SteppedClock } from "../support/galleries.js";
import { finished } from "../support/operations.js";
import {
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const count = 1100;
const clock = new SteppedClock();
let wire: WireServer;

before(async () => {
  wire = await startWireServer({ limits: { galleries: 150 } }, { clock });
  const { client } = wire;
  await client.GalleryService.CreateGallery({
    gallery: { name: "g", index: { flat: {} } },
  });
  for (let at = 0; at < count; at += 220)
    await client.GalleryService.Enroll({
      gallery: "g",
      enrollments: Array.from({ length: 220 }, (_, i) => ({
        feature: unitFeature(at + i),
        entry: { entryId: `e${at + i}`, identity: `p${at + i}` },
      })),
    });
  for (let i = 0; i < 120; i++)
    await client.GalleryService.CreateGallery({ gallery: { name: `g${i}` } });
  for (let i = 0; i < 3; i++) await snapshot();
});
after(() => wire.close());

async function snapshot(): Promise<void> {
  const { AdminService } = wire.client;
  await finished(wire.client, AdminService.CreateSnapshot({ gallery: "g" }));
  clock.timeMs += 1;
}

/** One page of a list: what is on it, by name, and the token of the next. */
type List = (request: object) => Promise<{
  readonly names: readonly string[];
  readonly nextPageToken: string;
}>;

const lists: Readonly<Record<string, List>> = {
  ListGalleries: async (request) => {
    const page = await wire.client.GalleryService.ListGalleries(request);
    return { ...page, names: page.galleries.map(({ name }) => name) };
  },
  ListEntries: async (request) => {
    const page = await wire.client.GalleryService.ListEntries({
      gallery: "g",
      ...request,
    });
    return { ...page, names: page.entries.map(({ entryId }) => entryId) };
  },
  ListIdentities: async (request) => {
    const page = await wire.client.GalleryService.ListIdentities({
      gallery: "g",
      ...request,
    });
    return { ...page, names: page.identities.map(({ identity }) => identity) };
  },
  ListOperations: async (request) => {
    const page = await wire.client.OperationService.ListOperations(request);
    return { ...page, names: page.operations.map((one) => one.operationId) };
  },
};

/** Every page of a list. */
async function all(list: List, request: object): Promise<readonly string[]> {
  const names: string[] = [];
  let pageToken = "";
  do {
    const page = await list({ ...request, pageToken });
    names.push(...page.names);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return names;
}

describe("a page", () => {
  test("has 100 items where no size is given, and 1000 where a larger one is", async () => {
    for (const name of ["ListGalleries", "ListEntries", "ListIdentities"])
      assert.equal((await lists[name]({})).names.length, 100, name);
    for (const name of ["ListEntries", "ListIdentities"])
      for (const pageSize of [1000, 1001, 4_294_967_295])
        assert.equal(
          (await lists[name]({ pageSize })).names.length,
          1000,
          name,
        );
  });

  test("has 128 entries at most where features or crops are returned", async () => {
    for (const view of ["ENTRY_VIEW_FEATURE", "ENTRY_VIEW_CROP"])
      for (const pageSize of [129, 1000])
        assert.equal(
          (await lists["ListEntries"]({ view, pageSize })).names.length,
          128,
        );
  });

  for (const [name, list] of Object.entries(lists)) {
    test(`of ${name} goes on where the one before ended, and the last has no token`, async () => {
      const names = await all(list, { pageSize: 1000 });
      assert.equal(new Set(names).size, names.length);
      const size = Math.ceil(names.length / 3);
      assert.deepEqual(await all(list, { pageSize: size }), names);
      assert.equal(
        (await list({ pageSize: names.length })).nextPageToken !== "",
        names.length > 1000,
      );
    });

    test(`of ${name} is given for a token of an hour, and for none that is older, foreign or changed`, async () => {
      const { nextPageToken: pageToken } = await list({ pageSize: 1 });
      assert.notEqual(pageToken, "");
      clock.timeMs += 3_600_000;
      // The size may change from page to page.
      assert.equal((await list({ pageSize: 2, pageToken })).names.length, 2);
      clock.timeMs += 1;
      const { facts } = await refused(
        list({ pageToken }),
        "PAGE_TOKEN_INVALID",
      );
      assert.match(String(facts["problem"]), /expired/);
      for (const foreign of ["rubbish", "W10"])
        await refused(list({ pageToken: foreign }), "PAGE_TOKEN_INVALID");
      const another = await list({ pageSize: 1 });
      for (const [other, listOther] of Object.entries(lists))
        if (other !== name)
          await refused(
            listOther({ pageToken: another.nextPageToken }),
            "PAGE_TOKEN_INVALID",
          );
    });
  }

  test("is refused where another field than its size has changed", async () => {
    for (const [name, request] of [
      ["ListEntries", { filter: { cameraIn: ["1"] } }],
      ["ListEntries", { view: "ENTRY_VIEW_FULL" }],
      ["ListEntries", { gallery: "g1" }],
      ["ListIdentities", { filter: { cameraIn: ["1"] } }],
      ["ListIdentities", { gallery: "g1" }],
      ["ListOperations", { kind: "OPERATION_KIND_SNAPSHOT" }],
      ["ListOperations", { state: "OPERATION_STATE_SUCCEEDED" }],
    ] as const) {
      const { nextPageToken: pageToken } = await lists[name]({ pageSize: 1 });
      await refused(
        lists[name]({ ...request, pageToken }),
        "PAGE_TOKEN_INVALID",
      );
    }
  });

  test("of operations is not moved by those that start behind the cursor", async () => {
    const before = await all(lists["ListOperations"], {});
    const first = await lists["ListOperations"]({ pageSize: 1 });
    await snapshot();
    const rest = await lists["ListOperations"]({
      pageToken: first.nextPageToken,
    });
    assert.deepEqual([...first.names, ...rest.names], before);
  });
});
