import assert from "node:assert/strict";
import { describe, test } from "node:test";

import fc from "fast-check";

import type { Filter } from "#index/filter";
import { compileFilter, hasConditions, passingRows } from "#index/filter-walk";
import { compareIds, GalleryRows, type Row } from "#index/gallery-rows";
import { listIdentities } from "#index/identities";
import { idTest } from "#index/vector-index";

import { holds } from "../support/naive-filter.js";

const seed = 17;

// Few values, so that rows and filters meet; some of the filters' are of no row.
const cameras = ["", "1", "2", "10"];
const identities = ["", "p1", "p2", "p3", "é", "\u{1f600}", "\uffee"];
const tracks = ["", "t1", "t2"];
const nowUs = 50;

const text = (values: readonly string[]) => fc.constantFrom(...values);
const some = (values: readonly string[]) =>
  fc.subarray([...values.filter((value) => value !== ""), "nobody's"]);

const rowFacts = fc.record({
  identity: text(identities),
  cameraId: text(cameras),
  trackId: text(tracks),
  capturedAtUs: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
  expiresAtUs: fc.option(fc.integer({ min: 48, max: 53 }), { nil: undefined }),
  attributes: fc.dictionary(text(["hat", "bag"]), text(["", "red", "blue"]), {
    maxKeys: 2,
    noNullPrototype: true,
  }),
});

const filters: fc.Arbitrary<Filter> = fc.record(
  {
    cameraIn: some(cameras),
    cameraNotIn: some(cameras),
    identityIn: some(identities),
    identityNotIn: some(identities),
    trackIn: some(tracks),
    entryNotIn: fc.subarray(["e1", "e2", "e3", "e40", "e41", "nobody's"]),
    identified: fc.constantFrom("either", "present", "absent"),
    captured: fc.record(
      {
        startUs: fc.integer({ min: 0, max: 20 }),
        endUs: fc.integer({ min: 0, max: 21 }),
      },
      { requiredKeys: [] },
    ),
    attributes: fc.array(
      fc.oneof(
        fc.record({
          key: text(["hat", "bag", "shoe"]),
          anyOf: fc.subarray(["", "red", "green"], { minLength: 1 }),
        }),
        fc.record({
          key: text(["hat", "bag", "shoe"]),
          noneOf: fc.subarray(["", "red", "green"], { minLength: 1 }),
        }),
      ),
      { maxLength: 2 },
    ),
    notBoth: fc.record({
      identity: text(identities.slice(1)),
      cameraId: text(cameras.slice(1)),
    }),
  },
  { requiredKeys: [] },
);

type Facts = typeof rowFacts extends fc.Arbitrary<infer Value> ? Value : never;

/** Some of them deleted, some updated under a new sequence, so that feature ids and sequences differ. */
function rowsOf(
  facts: readonly Facts[],
  { deleted, updated }: Readonly<Record<"deleted" | "updated", number[]>>,
): { readonly rows: GalleryRows; readonly living: readonly Row[] } {
  const rows = new GalleryRows();
  const living = new Map<number, Row>();
  let sequence = 0;
  const add = (row: Row) => {
    rows.add(row);
    living.set(row.featureId, row);
  };
  for (const one of facts) {
    sequence++;
    add({
      ...one,
      entryId: `e${sequence}`,
      sequence,
      featureId: sequence,
      enrolledAtUs: sequence,
      hasCrop: sequence % 2 === 0,
    });
  }
  for (const featureId of deleted) {
    const row = living.get(1 + (featureId % facts.length));
    if (row === undefined) continue;
    living.delete(row.featureId);
    rows.remove(row);
  }
  for (const featureId of updated) {
    const row = living.get(1 + (featureId % facts.length));
    if (row === undefined) continue;
    const { identity } = facts[(featureId * 7) % facts.length];
    add({ ...row, identity, sequence: ++sequence });
    rows.remove(row);
  }
  return {
    rows,
    living: [...living.values()].sort((a, b) => a.sequence - b.sequence),
  };
}

const scene = fc
  .tuple(
    fc.array(rowFacts, { minLength: 1, maxLength: 300 }),
    fc.array(fc.nat(1000), { maxLength: 250 }),
    fc.array(fc.nat(1000), { maxLength: 60 }),
  )
  .map(([facts, deleted, updated]) => rowsOf(facts, { deleted, updated }));

describe("filters over columns", () => {
  test("pass what a look at every entry passes, for all filters, over deletions and updates", () =>
    fc.assert(
      fc.asyncProperty(
        scene,
        fc.array(fc.option(filters, { nil: undefined }), { maxLength: 2 }),
        fc.nat(400),
        async ({ rows, living }, set, afterSequence) => {
          const wanted = living.filter(
            (row) =>
              (row.expiresAtUs ?? Infinity) > nowUs &&
              set.every((one) => one === undefined || holds(row, one)),
          );
          const { ids, survivors } = await compileFilter(rows, set, nowUs);
          const isListed = ids && idTest(ids);
          const passing = living.filter(
            ({ featureId }) =>
              isListed?.(featureId) !== (ids?.mode === "except"),
          );
          assert.deepEqual(passing, wanted);
          assert.equal(survivors, wanted.length);

          const behind: Row[] = [];
          const given = set.filter((one) => one !== undefined);
          for await (const { count, featureId, row } of passingRows(
            rows,
            given,
            {
              nowUs,
              afterSequence,
            },
          ))
            for (let i = 0; i < count; i++) {
              assert.equal(row(i).featureId, featureId(i));
              behind.push(row(i));
            }
          assert.deepEqual(
            behind,
            wanted.filter(({ sequence }) => sequence > afterSequence),
          );
        },
      ),
      { seed, numRuns: 400 },
    ));

  test("say whether there is any condition", () =>
    fc.assert(
      fc.property(filters, (filter) => {
        const { captured, identified, notBoth, ...lists } = filter;
        const isSet =
          Object.values(lists).some((list) => list.length > 0) ||
          captured?.startUs !== undefined ||
          captured?.endUs !== undefined ||
          !["either", undefined].includes(identified) ||
          notBoth !== undefined;
        assert.equal(hasConditions(filter), isSet);
      }),
      { seed, numRuns: 300 },
    ));
});

describe("rows in columns", () => {
  test("are found by feature, id and identity, and counted", () =>
    fc.assert(
      fc.property(scene, ({ rows, living }) => {
        assert.deepEqual([...rows.all()], living);
        assert.equal(rows.size, living.length);
        const known = new Set(living.map(({ identity }) => identity));
        known.delete("");
        assert.equal(rows.identityCount, known.size);
        for (const row of living) {
          assert.deepEqual(rows.at(row.featureId), row);
          assert.deepEqual(rows.named(row.entryId), row);
        }
        for (let featureId = 0; featureId <= 400; featureId++)
          assert.equal(
            rows.has(featureId),
            living.some((row) => row.featureId === featureId),
          );
        for (const identity of known)
          assert.deepEqual(
            [...rows.ofIdentity(identity)].reverse(),
            living
              .filter((row) => row.identity === identity)
              .map(({ featureId }) => featureId),
          );
        assert.deepEqual(
          [...rows.expired(nowUs)],
          living.filter((row) => (row.expiresAtUs ?? Infinity) <= nowUs),
        );
      }),
      { seed, numRuns: 200 },
    ));
});

describe("identities", () => {
  test("are listed in byte order, page by page, as counting every entry does", () =>
    fc.assert(
      fc.asyncProperty(
        scene,
        fc.option(filters, { nil: undefined }),
        fc.integer({ min: 1, max: 4 }),
        async ({ rows, living }, filter, pageSize) => {
          const groups = new Map<string, Row[]>();
          for (const row of living) {
            if (row.identity === "" || (row.expiresAtUs ?? Infinity) <= nowUs)
              continue;
            if (filter !== undefined && !holds(row, filter)) continue;
            groups.set(row.identity, [
              ...(groups.get(row.identity) ?? []),
              row,
            ]);
          }
          const wanted = [...groups.keys()]
            .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
            .map((identity) => {
              const members = groups.get(identity) ?? [];
              const times = members
                .map(({ capturedAtUs }) => capturedAtUs)
                .filter((time) => time !== undefined);
              return {
                identity,
                entryCount: members.length,
                cameraIds: [...new Set(members.map(({ cameraId }) => cameraId))]
                  .filter((cameraId) => cameraId !== "")
                  .sort(),
                captured:
                  times.length === 0
                    ? undefined
                    : {
                        startUs: Math.min(...times),
                        endUs: Math.max(...times) + 1,
                      },
              };
            });
          const found: unknown[] = [];
          let after: string | undefined;
          do {
            const page = await listIdentities(
              rows,
              { filter, after, pageSize },
              nowUs,
            );
            assert.ok(page.identities.length <= pageSize);
            found.push(...page.identities);
            after = page.nextIdentity;
          } while (after !== undefined);
          assert.deepEqual(found, wanted);
        },
      ),
      { seed, numRuns: 200 },
    ));
});

describe("compareIds", () => {
  test("orders texts as their UTF-8 bytes", () =>
    fc.assert(
      fc.property(
        fc.string({ unit: "binary" }),
        fc.string({ unit: "binary" }),
        (a, b) => {
          const wanted = Buffer.compare(Buffer.from(a), Buffer.from(b));
          assert.equal(Math.sign(compareIds(a, b)), wanted);
        },
      ),
      { seed, numRuns: 2000 },
    ));
});
