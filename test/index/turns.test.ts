import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { compileFilter } from "#index/filter-walk";
import { GalleryDraft } from "#index/gallery-draft";
import { hitsOf } from "#index/gallery-entry";
import { listRows } from "#index/gallery-listing";
import type { GalleryRecord } from "#index/gallery-records";
import { GalleryRows, type Row } from "#index/gallery-rows";

const count = 100_000;
/** A time at which every second entry is over. */
const later = 2000;

const rows = new GalleryRows();
for (let sequence = 1; sequence <= count; sequence++)
  rows.add({
    entryId: `e${sequence}`,
    sequence,
    featureId: sequence,
    identity: `p${sequence % 1000}`,
    cameraId: `c${sequence % 2}`,
    capturedAtUs: sequence,
    trackId: "",
    attributes: {},
    expiresAtUs: sequence % 2 === 1 ? 1000 : undefined,
    enrolledAtUs: 1,
    hasCrop: false,
  });

/** Of the record only the numbers count here. */
const record = {
  number: 1,
  dimension: 2,
  sequence: count,
  writtenCount: count,
  replacedCount: 0,
  deletedCount: 0,
} as GalleryRecord;

const draftAt = (nowUs: number) =>
  new GalleryDraft(rows, record, { nowUs, newEntryId: () => "new" });

/** How often other work had its turn while something was done. */
async function turnsOf(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let isDone = false;
  const other = (async () => {
    while (!isDone) {
      await setImmediate();
      turns++;
    }
  })();
  await work();
  isDone = true;
  await other;
  return turns;
}

/** What walks over a gallery, and of how many rows it makes one turn at most. */
const walks: readonly (readonly [string, number, () => Promise<number>])[] = [
  [
    "ListEntries with a filter that none passes",
    65_536,
    async () => {
      const filter = { cameraIn: ["none"] };
      const page = await listRows(rows, { filter, pageSize: 1000 }, 0);
      return page.rows.length;
    },
  ],
  [
    "ListEntries with attributes that none has",
    65_536,
    async () => {
      const filter = { attributes: [{ key: "hat", anyOf: ["red"] }] };
      const page = await listRows(rows, { filter, pageSize: 1000 }, 0);
      return page.rows.length;
    },
  ],
  [
    "Search while half of the entries wait for the sweep",
    65_536,
    async () => (await compileFilter(rows, [], later)).survivors,
  ],
  [
    "DeleteEntries by a filter that half pass",
    512,
    () => draftAt(0).deleteSelected({ filter: { cameraIn: ["c1"] } }),
  ],
  [
    "UpdateEntries by a filter that half pass",
    512,
    async () => {
      const selector = { filter: { cameraIn: ["c1"] } };
      const changes = { identity: "q" };
      const { updatedCount } = await draftAt(0).updateSelected(
        selector,
        changes,
      );
      return updatedCount;
    },
  ],
  [
    "the sweep when half are over in one moment",
    512,
    () => draftAt(later).sweep(),
  ],
];

describe("a walk over 100,000 entries", () => {
  for (const [what, rowsATurn, walk] of walks)
    test(`lets others have their turn: ${what}`, async () => {
      let hit = 0;
      const turns = await turnsOf(async () => (hit = await walk()));
      assert.equal(hit, what.startsWith("List") ? 0 : count / 2);
      assert.ok(turns >= Math.floor(count / rowsATurn), `${turns} turns`);
    });
});

describe("the hits of a search", () => {
  test("are made in turns", async () => {
    const found = Array.from({ length: count }, (_, i) => ({
      row: rows.at(i + 1) as Row,
      similarity: 1,
    }));
    // Without features and crops nothing is read from the store.
    const source = {} as Parameters<typeof hitsOf>[2];
    const request = { queries: new Float32Array(2), k: count };
    let hits = 0;
    const turns = await turnsOf(async () => {
      const [made] = await hitsOf(
        [{ rows: found, exact: true }],
        request,
        source,
      );
      hits = made.hits.length;
    });
    assert.equal(hits, count);
    assert.ok(turns >= Math.floor(count / 1024), `${turns} turns`);
  });
});
