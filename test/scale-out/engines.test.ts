import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";

import type { Filter } from "#index/filter";
import type { Gallery } from "#index/galleries";
import type { Enrollment, GallerySpec } from "#index/gallery-types";

import { featureNamed } from "../support/galleries.js";
import { engines } from "../support/scaled.js";

const dimension = 16;
const spec: GallerySpec = {
  name: "door",
  model: { name: "external", version: 1 },
  dimension,
};
const feature = (name: string): Float32Array => featureNamed(name, dimension);
const nasty = `a"b'c\\d ]%_ üñ日本 😀`;

/** Ten entries: of four identities, three cameras, every second with an attribute. */
function tenEntries(): Enrollment[] {
  return Array.from({ length: 10 }, (_, i) => ({
    entryId: `e${i}`,
    feature: feature(`e${i}`),
    identity: i === 9 ? "" : i === 8 ? nasty : `p${i % 4}`,
    cameraId: String(i % 3),
    trackId: `t${i}`,
    ...(i === 7 ? {} : { capturedAtUs: 1_000_000 + i }),
    attributes: i % 2 === 0 ? { hat: i === 8 ? nasty : "red" } : {},
  }));
}

function ids(
  hits: readonly { readonly entry: { entryId: string } }[],
): string[] {
  return hits.map(({ entry }) => entry.entryId);
}

async function found(
  gallery: Gallery,
  filter: Filter,
  freshness: "acknowledged" | "indexed" = "acknowledged",
): Promise<string[]> {
  const { sequence } = gallery.describe();
  const { results } = await gallery.search({
    queries: feature("e0"),
    k: 100,
    filter,
    freshness,
    ...(freshness === "indexed" ? { minSequence: sequence } : {}),
  });
  return ids(results[0].hits).sort();
}

/** Every field of a filter, and the entries of {@link tenEntries} that pass. */
const filters: Readonly<
  Record<keyof Filter, readonly (readonly [Filter, string])[]>
> = {
  cameraIn: [[{ cameraIn: ["1", "2"] }, "124578"]],
  cameraNotIn: [[{ cameraNotIn: ["0"] }, "124578"]],
  captured: [
    [{ captured: { startUs: 1_000_003, endUs: 1_000_008 } }, "3456"],
    [{ captured: { endUs: 1_000_003 } }, "012"],
  ],
  identityIn: [
    [{ identityIn: ["p1"] }, "15"],
    [{ identityIn: [nasty] }, "8"],
  ],
  identityNotIn: [[{ identityNotIn: ["p0", "p1", nasty] }, "23679"]],
  identified: [
    [{ identified: "present" }, "012345678"],
    [{ identified: "absent" }, "9"],
  ],
  attributes: [
    [{ attributes: [{ key: "hat", anyOf: ["red"] }] }, "0246"],
    [{ attributes: [{ key: "hat", anyOf: [nasty, "blue"] }] }, "8"],
    [{ attributes: [{ key: "hat", noneOf: ["red"] }] }, "135789"],
  ],
  trackIn: [[{ trackIn: ["t3", "t4"] }, "34"]],
  entryNotIn: [[{ entryNotIn: ["e0", "e9"] }, "12345678"]],
  notBoth: [[{ notBoth: { identity: "p1", cameraId: "1" } }, "023456789"]],
};

for (const engine of engines)
  describe(`${engine.name} engine`, { skip: engine.skip }, () => {
    test("writes enrolments in the order in which they were made, though none waited for the one before", () =>
      engine.run(async ({ galleries }) => {
        // Regression: each asked for room by itself, and went on when it was answered.
        const gallery = await galleries.create(spec);
        const count = 100;
        const outcomes = await Promise.all(
          Array.from({ length: count }, (_, i) =>
            gallery.enroll([
              { entryId: "e", identity: `p${i}`, feature: feature(`e${i}`) },
            ]),
          ),
        );
        assert.deepEqual(
          outcomes.map(({ results }) => results[0].sequence),
          Array.from({ length: count }, (_, i) => i + 1),
        );
        const last = await gallery.getEntry("e");
        assert.equal(last.identity, `p${count - 1}`);
      }));

    test("numbers writes by one, replaces, keeps and fails as it is told", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create({ ...spec, maxEntries: 4 });
        const write = (entryId: string, name: string): Enrollment => ({
          entryId,
          feature: feature(name),
        });
        const sequences = async (
          entries: readonly Enrollment[],
          onExisting: "replace" | "keep" | "fail" = "replace",
        ) => {
          const { results } = await gallery.enroll(entries, { onExisting });
          return results.map(({ sequence, error }) => error?.code ?? sequence);
        };
        assert.deepEqual(
          await sequences([write("a", "1"), write("b", "2")]),
          [1, 2],
        );
        assert.deepEqual(
          await sequences([write("a", "3"), write("a", "4")]),
          [3, 4],
        );
        assert.deepEqual(
          (await gallery.getEntry("a", "feature")).feature,
          feature("4"),
        );
        assert.deepEqual(
          await sequences([write("a", "5"), write("c", "6")], "keep"),
          [4, 5],
        );
        assert.deepEqual(
          await sequences([write("a", "7"), write("d", "8")], "fail"),
          ["ENTRY_EXISTS", 6],
        );
        assert.deepEqual(
          await sequences([
            write("e", "9"),
            { entryId: "b", feature: new Float32Array(3) },
            write("b", "10"),
          ]),
          ["GALLERY_FULL", "FEATURE_DIMENSION", 7],
        );
        assert.deepEqual(
          await gallery.deleteEntries({ entryIds: ["a", "x"] }),
          { deletedCount: 1, sequence: 8 },
        );
        await assert.rejects(gallery.getEntry("a"), {
          code: "ENTRY_NOT_FOUND",
        });
        const { entryCount, sequence } = gallery.describe();
        assert.deepEqual([entryCount, sequence], [3, 8]);
        const { results } = await gallery.search({
          queries: feature("10"),
          k: 9,
        });
        assert.deepEqual(ids(results[0].hits).sort(), ["b", "c", "d"]);
        assert.equal(results[0].hits[0].entry.entryId, "b");
      }));

    test("filters by every field, in searches, lists and deletions alike", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        await gallery.enroll(tenEntries());
        assert.equal(gallery.describe().identityCount, 5);
        for (const [field, cases] of Object.entries(filters))
          for (const [filter, expected] of cases) {
            const wanted = [...expected].map((digit) => `e${digit}`);
            assert.deepEqual(await found(gallery, filter), wanted, field);
            assert.deepEqual(
              await found(gallery, filter, "indexed"),
              wanted,
              `${field}, from the index`,
            );
            const { entries } = await gallery.listEntries({
              filter,
              pageSize: 100,
            });
            assert.deepEqual(
              entries.map(({ entryId }) => entryId),
              wanted,
              `${field}, as a list`,
            );
          }
        await assert.rejects(gallery.deleteEntries({ filter: {} }), {
          code: "FILTER_EMPTY",
        });
        await gallery.deleteEntries({ filter: { identityIn: [nasty] } });
        await gallery.deleteEntries({ identity: "p1" });
        assert.equal(gallery.describe().identityCount, 3);
        assert.deepEqual(await found(gallery, {}), [
          ...["e0", "e2", "e3", "e4", "e6", "e7", "e9"],
        ]);
      }));

    test("a search sees acknowledged writes at once, and waits for the index where it is asked to", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        for (let i = 0; i < 20; i++) {
          const { sequence } = await gallery.enroll([
            { entryId: `n${i}`, feature: feature(`n${i}`) },
          ]);
          for (const freshness of ["acknowledged", "indexed"] as const) {
            const { results, sequence: seen } = await gallery.search({
              queries: feature(`n${i}`),
              k: 1,
              freshness,
              minSequence: sequence,
            });
            assert.deepEqual(ids(results[0].hits), [`n${i}`], freshness);
            assert.ok(seen >= sequence);
          }
        }
        for (const mode of ["index", "exact"] as const) {
          const { results } = await gallery.search({
            queries: Float32Array.from([...feature("n3"), ...feature("n4")]),
            k: 3,
            mode,
            withFeatures: true,
            queryFilters: [undefined, { entryNotIn: ["n4"] }],
          });
          assert.equal(results[0].hits[0].entry.entryId, "n3");
          assert.ok(Math.abs(results[0].hits[0].similarity - 1) < 1e-6);
          assert.ok(!ids(results[1].hits).includes("n4"));
          assert.equal(results[1].features?.length, 3 * dimension);
        }
        await assert.rejects(
          gallery.search({ queries: feature("n0"), k: 1, minSequence: 99 }),
          { code: "SEQUENCE_AHEAD" },
        );
        await assert.rejects(
          gallery.search({ queries: new Float32Array(3), k: 1 }),
          { code: "FEATURE_DIMENSION" },
        );
      }));

    test("updates entries under new sequences, and lists the identities that come of it", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        await gallery.enroll(tenEntries());
        const merged = await gallery.updateEntries(
          { identity: "p1" },
          { identity: "p2", attributes: { maximum: 16, set: { seen: "1" } } },
        );
        assert.deepEqual(merged, { updatedCount: 2, sequence: 12 });
        assert.deepEqual(await found(gallery, { identityIn: ["p2"] }), [
          ...["e1", "e2", "e5", "e6"],
        ]);
        await gallery.search({
          queries: feature("e1"),
          k: 1,
          freshness: "indexed",
          minSequence: 12,
        });
        const { results } = await gallery.search({
          queries: feature("e5"),
          k: 1,
          view: "full",
          filter: { attributes: [{ key: "seen", anyOf: ["1"] }] },
        });
        const [{ entry }] = results[0].hits;
        assert.deepEqual(
          [entry.entryId, entry.sequence, entry.attributes],
          ["e5", 12, { seen: "1" }],
        );
        const first = await gallery.listIdentities({ pageSize: 2 });
        assert.equal(first.nextIdentity, "p0");
        const rest = await gallery.listIdentities({
          pageSize: 2,
          after: first.nextIdentity,
        });
        assert.deepEqual(rest, {
          identities: [
            {
              identity: "p2",
              entryCount: 4,
              cameraIds: ["0", "1", "2"],
              captured: { startUs: 1_000_001, endUs: 1_000_007 },
            },
            {
              identity: "p3",
              entryCount: 2,
              cameraIds: ["0", "1"],
              captured: { startUs: 1_000_003, endUs: 1_000_004 },
            },
          ],
          nextIdentity: undefined,
        });
      }));

    test("groups hits by identity, each identity with its own best entries", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        await gallery.enroll(tenEntries());
        const { results } = await gallery.search({
          queries: feature("e5"),
          k: 3,
          group: { hitsPerIdentity: 2 },
        });
        const hits = results[0].hits.map(({ entry }) => entry.identity);
        assert.equal(hits[0], "p1");
        assert.equal(new Set(hits).size, 3);
        assert.equal(hits.filter((identity) => identity === "p1").length, 2);
      }));

    test("entries disappear when their time is over, and their places are free again", () =>
      engine.run(async ({ galleries, clock }) => {
        const gallery = await galleries.create({
          ...spec,
          maxEntries: 2,
          defaultTtlMs: 60_000,
        });
        const forever = clock.now() * 1000 + 1e12;
        await gallery.enroll([
          { entryId: "short", feature: feature("short") },
          { entryId: "long", feature: feature("long"), expiresAtUs: forever },
        ]);
        clock.timeMs += 60_000;
        const { results } = await gallery.search({
          queries: feature("short"),
          k: 5,
        });
        assert.deepEqual(ids(results[0].hits), ["long"]);
        await assert.rejects(gallery.getEntry("short"), {
          code: "ENTRY_NOT_FOUND",
        });
        const again = await gallery.enroll(
          [{ entryId: "short", feature: feature("again") }],
          { onExisting: "fail" },
        );
        // One write deletes the old one, the next is the new one.
        assert.deepEqual(again.results, [{ entryId: "short", sequence: 4 }]);
        clock.timeMs += 60_000;
        await galleries.sweep();
        assert.equal((await galleries.get("door")).describe().entryCount, 1);
      }));

    test("attributes hold any text, U+0000 too, and tell it from every other", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create(spec);
        const values = [
          "\u0000",
          "\u0001",
          "\u00010",
          "\u00011",
          "\n\t\u007f",
          "",
        ];
        await gallery.enroll(
          values.map((hat, i) => ({
            entryId: `e${i}`,
            feature: feature(`e${i}`),
            attributes: { hat },
          })),
        );
        for (const freshness of ["acknowledged", "indexed"] as const)
          for (const [i, hat] of values.entries()) {
            const any = { attributes: [{ key: "hat", anyOf: [hat] }] };
            const none = { attributes: [{ key: "hat", noneOf: [hat] }] };
            assert.deepEqual(await found(gallery, any, freshness), [`e${i}`]);
            assert.equal((await found(gallery, none, freshness)).length, 5);
            const { attributes } = await gallery.getEntry(`e${i}`, "full");
            assert.deepEqual(attributes, { hat });
          }
        await gallery.updateEntries(
          { filter: { attributes: [{ key: "hat", anyOf: ["\u0000"] }] } },
          { attributes: { maximum: 16, set: { bag: "\u0000\u0001" } } },
        );
        const { attributes } = await gallery.getEntry("e0", "full");
        assert.deepEqual(attributes, { hat: "\u0000", bag: "\u0000\u0001" });
      }));

    test("pages of a list stay as they are while writes go on", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create({
          ...spec,
          cropRetention: "keep",
        });
        const crop = Uint8Array.of(1, 2, 3);
        await gallery.enroll(tenEntries().map((one) => ({ ...one, crop })));
        const first = await gallery.listEntries({ pageSize: 4, view: "crop" });
        assert.deepEqual([...(first.entries[0].crop ?? [])], [1, 2, 3]);
        await gallery.enroll(tenEntries().slice(0, 2));
        await gallery.deleteEntries({ entryIds: ["e5"] });
        const seen = [...first.entries];
        for (let next = first.nextSequence; next !== undefined;) {
          const page = await gallery.listEntries({
            pageSize: 4,
            afterSequence: next,
          });
          seen.push(...page.entries);
          next = page.nextSequence;
        }
        assert.deepEqual(
          seen.map(({ entryId }) => entryId).join(" "),
          "e0 e1 e2 e3 e4 e6 e7 e8 e9 e0 e1",
        );
      }));

    test("a request id makes its call once, also for another server", () =>
      engine.run(async ({ galleries, open }) => {
        const gallery = await galleries.create(spec);
        const requestId = randomUUID();
        const request = Buffer.from("enrol");
        const others = open === undefined ? galleries : await open();
        const call = async (of: typeof galleries): Promise<string> => {
          const bytes = await of.requests.once(
            { requestId, request },
            async (keep) => {
              let response: Uint8Array = new Uint8Array();
              await (
                await of.get("door")
              ).enroll([{ feature: feature("a") }], {
                inTransaction: (writer, { results }) => {
                  response = Buffer.from(results[0].entryId);
                  keep(writer, response);
                },
              });
              return response;
            },
          );
          return Buffer.from(bytes).toString();
        };
        const answers = await Promise.all([
          ...[call(galleries), call(others), call(galleries), call(others)],
        ]);
        assert.equal(new Set(answers).size, 1, answers.join(" "));
        assert.equal((await galleries.get("door")).describe().entryCount, 1);
        assert.equal((await gallery.getEntry(answers[0])).entryId, answers[0]);
        await assert.rejects(
          others.requests.once(
            { requestId, request: Buffer.from("other") },
            async () => new Uint8Array(),
          ),
          { code: "REQUEST_ID_REUSED" },
        );
      }));

    test("a request id is forgotten after a day, and its call made again", () =>
      engine.run(async ({ galleries, clock }) => {
        const requestId = randomUUID();
        let calls = 0;
        const call = () =>
          galleries.requests.once(
            { requestId, request: Buffer.from("count") },
            async (keep) => {
              const response = Buffer.from(String(++calls));
              await galleries.requests.write((writer) =>
                keep(writer, response),
              );
              return response;
            },
          );
        await call();
        clock.timeMs += 24 * 3_600_000 - 1;
        await galleries.sweep();
        assert.equal(Buffer.from(await call()).toString(), "1");
        clock.timeMs += 1;
        assert.equal(Buffer.from(await call()).toString(), "2");
        await galleries.sweep();
        assert.equal(Buffer.from(await call()).toString(), "2");
      }));

    test("orders equal similarities by entry id, also at the cut", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create({
          ...spec,
          index: { kind: "flat" },
        });
        const same = feature("same");
        const names = Array.from({ length: 60 }, (_, i) => `n${(i * 37) % 60}`);
        await gallery.enroll(
          names.map((entryId) => ({ entryId, feature: same })),
        );
        const indexed = { freshness: "indexed", minSequence: 60 } as const;
        for (const more of [{ mode: "exact" } as const, {}, indexed]) {
          const { results } = await gallery.search({
            ...{ queries: same, k: 7 },
            ...more,
          });
          assert.deepEqual(
            ids(results[0].hits),
            [...names].sort().slice(0, 7),
            JSON.stringify(more),
          );
        }
      }));

    test("tells how many entries have expired, once", () => {
      const expired: [string, number][] = [];
      return engine.run(
        async ({ galleries, clock }) => {
          const gallery = await galleries.create({
            ...spec,
            defaultTtlMs: 60_000,
          });
          await gallery.enroll(tenEntries());
          clock.timeMs += 60_000;
          await galleries.sweep();
          await galleries.sweep();
          assert.deepEqual(expired, [["door", 10]]);
        },
        { onExpire: (name, entries) => expired.push([name, entries]) },
      );
    });

    test("refuses a second gallery of a name, and forgets a deleted one's entries", () =>
      engine.run(async ({ galleries }) => {
        const gallery = await galleries.create({
          ...spec,
          tags: { site: "north" },
        });
        await gallery.enroll(tenEntries());
        await assert.rejects(galleries.create(spec), {
          code: "GALLERY_EXISTS",
        });
        await gallery.update({ defaultTtlMs: null, tags: { site: "south" } });
        assert.deepEqual((await galleries.list())[0].describe().tags, {
          site: "south",
        });
        await galleries.delete("door");
        await assert.rejects(galleries.get("door"), {
          code: "GALLERY_NOT_FOUND",
        });
        const again = await galleries.create(spec);
        const { results } = await again.search({
          queries: feature("e1"),
          k: 3,
        });
        assert.deepEqual(results, [{ hits: [], exact: true }]);
      }));
  });
