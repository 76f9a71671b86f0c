import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { randomStream, type RandomStream } from "#core/random";
import { dot } from "#core/vectors";
import type { Filter } from "#index/filter";
import type {
  Enrollment,
  EntryChanges,
  EntrySelector,
  GallerySpec,
} from "#index/gallery-types";

import {
  inFolder,
  openGalleries,
  unitFeatures,
  type OpenGalleries,
} from "../support/galleries.js";
import { holds, type FilteredFields } from "../support/naive-filter.js";

interface Known extends FilteredFields {
  readonly feature: Float32Array;
  readonly expiresAtUs: number | undefined;
  readonly enrolledAtUs: number;
  readonly sequence: number;
}

const dimension = 12;
const operations = 250;
const tickUs = 1_000_000;

type Fields = Omit<FilteredFields, "entryId"> & Pick<Known, "expiresAtUs">;

/** One of a few values, or none. */
function one(random: RandomStream, prefix: string, count: number): string {
  const value = random.below(count + 1);
  return value === 0 ? "" : `${prefix}${value}`;
}

function randomFields(random: RandomStream, nowUs: number): Fields {
  const hat = one(random, "h", 2);
  return {
    identity: one(random, "p", 5),
    cameraId: one(random, "c", 3),
    trackId: one(random, "t", 4),
    capturedAtUs: random.below(4) === 0 ? undefined : random.below(10),
    expiresAtUs:
      random.below(3) === 0 ? nowUs + random.below(20) * tickUs : undefined,
    attributes: { ...(hat === "" ? {} : { hat }), bag: one(random, "b", 2) },
  };
}

/** The fields as an enrolment has them. */
function given({
  capturedAtUs,
  expiresAtUs,
  ...rest
}: Fields): Omit<Enrollment, "feature"> {
  return {
    ...rest,
    ...(capturedAtUs === undefined ? {} : { capturedAtUs }),
    ...(expiresAtUs === undefined ? {} : { expiresAtUs }),
  };
}

/** Every field of a filter, one time in four each. */
function randomFilter(random: RandomStream): Filter {
  const list = (prefix: string) => [
    `${prefix}${1 + random.below(4)}`,
    `${prefix}${1 + random.below(4)}`,
  ];
  const startUs = random.below(10);
  const fields: Required<Filter> = {
    cameraIn: list("c"),
    cameraNotIn: list("c"),
    identityIn: list("p"),
    identityNotIn: list("p"),
    trackIn: list("t"),
    entryNotIn: list("e"),
    identified: random.below(2) === 0 ? "present" : "absent",
    captured: { startUs, endUs: startUs + 1 + random.below(6) },
    attributes: [
      random.below(2) === 0
        ? { key: "hat", anyOf: list("h") }
        : { key: "bag", noneOf: list("b") },
    ],
    notBoth: { identity: list("p")[0], cameraId: list("c")[0] },
  };
  return Object.fromEntries(
    Object.entries(fields).filter(() => random.below(4) === 0),
  );
}

const specs: readonly GallerySpec[] = [
  {
    name: "flat",
    model: { name: "m", version: 1 },
    dimension,
    index: { kind: "flat" },
  },
  { name: "graph", model: { name: "m", version: 1 }, dimension },
];

for (const [spec, seed] of specs.flatMap((one) =>
  [1, 2].map((n) => [one, n] as const),
)) {
  describe(`gallery ${spec.name} against a Map, seed ${seed}`, () => {
    test("agrees after every operation, over restarts, rebuilds and snapshots", () =>
      inFolder(async (folder) => {
        const random = randomStream(seed, "gallery model");
        const model = new Map<string, Known>();
        const trace: string[] = [];
        let sequence = 0;
        let open: OpenGalleries = await openGalleries(folder);
        await open.galleries.create(spec);
        const gallery = () => open.galleries.get(spec.name);
        const name = () => `e${random.below(60)}`;
        const nowUs = () => open.clock.timeMs * 1000;

        /** What a write finds over, it deletes first. */
        const sweep = (): void => {
          for (const [entryId, { expiresAtUs = Infinity }] of model) {
            if (expiresAtUs > nowUs()) continue;
            model.delete(entryId);
            sequence++;
          }
        };
        const visible = () =>
          [...model.values()].filter(
            ({ expiresAtUs = Infinity }) => expiresAtUs > nowUs(),
          );

        const randomSelector = (): EntrySelector => {
          const kind = random.below(3);
          if (kind === 0) return { identity: `p${1 + random.below(5)}` };
          if (kind === 1) return { entryIds: [name(), name(), name()] };
          return {
            filter: { ...randomFilter(random), cameraIn: ["c1", "c2"] },
          };
        };
        /** Entry ids of what a selector names, by sequence; by id in the order of the ids. */
        const selected = (selector: EntrySelector): readonly string[] => {
          if ("entryIds" in selector)
            return [...new Set(selector.entryIds)].filter((id) =>
              model.has(id),
            );
          const filter =
            "identity" in selector
              ? { identityIn: [selector.identity] }
              : selector.filter;
          return [...model.values()]
            .filter((known) => holds(known, filter))
            .sort((a, b) => a.sequence - b.sequence)
            .map(({ entryId }) => entryId);
        };

        const enroll = async (): Promise<void> => {
          const policy = (["replace", "keep", "fail"] as const)[
            random.below(3)
          ];
          const items = Array.from({ length: 1 + random.below(12) }, () => ({
            entryId: name(),
            feature: unitFeatures(random, 1, dimension),
            ...randomFields(random, nowUs()),
          }));
          trace.push(
            `enroll ${policy} ${items.map((i) => i.entryId).join(" ")}`,
          );
          const { results } = await (
            await gallery()
          ).enroll(
            items.map(({ feature, ...item }) => ({ feature, ...given(item) })),
            { onExisting: policy },
          );
          sweep();
          items.forEach(({ entryId, ...rest }, i) => {
            const known = model.get(entryId);
            if (known !== undefined && policy === "fail")
              assert.equal(results[i].error?.code, "ENTRY_EXISTS");
            else if (known !== undefined && policy === "keep")
              assert.equal(results[i].sequence, known.sequence);
            else {
              assert.equal(results[i].sequence, ++sequence);
              const enrolledAtUs = nowUs();
              model.set(entryId, { ...rest, entryId, enrolledAtUs, sequence });
            }
          });
        };

        const remove = async (): Promise<void> => {
          const selector = randomSelector();
          trace.push(`delete ${JSON.stringify(selector)}`);
          const outcome = await (await gallery()).deleteEntries(selector);
          sweep();
          const doomed = selected(selector);
          for (const entryId of doomed) model.delete(entryId);
          sequence += doomed.length;
          assert.deepEqual(outcome, { deletedCount: doomed.length, sequence });
        };

        const update = async (): Promise<void> => {
          const selector = randomSelector();
          const { attributes, ...all } = randomFields(random, nowUs());
          const fields = Object.fromEntries(
            Object.entries({
              ...all,
              capturedAtUs: all.capturedAtUs ?? null,
              expiresAtUs: all.expiresAtUs ?? null,
            }).filter(() => random.below(3) === 0),
          );
          const bag = random.below(2) === 0 ? "b9" : null;
          const changes: EntryChanges = {
            ...fields,
            ...[
              {},
              { attributes: { replace: attributes, maximum: 16 } },
              { attributes: { set: { bag }, maximum: 16 } },
            ][random.below(3)],
          };
          trace.push(
            `update ${JSON.stringify(selector)} ${JSON.stringify(changes)}`,
          );
          const outcome = await (
            await gallery()
          ).updateEntries(selector, changes);
          sweep();
          const changed = selected(selector);
          for (const entryId of changed) {
            const known = model.get(entryId);
            assert.ok(known !== undefined);
            const { attributes: wanted, ...rest } = changes;
            const now = { ...(wanted?.replace ?? known.attributes) };
            if (wanted?.set?.["bag"] === null) delete now["bag"];
            else if (wanted?.set !== undefined) now["bag"] = "b9";
            model.set(entryId, {
              ...known,
              ...rest,
              capturedAtUs:
                rest.capturedAtUs === undefined
                  ? known.capturedAtUs
                  : (rest.capturedAtUs ?? undefined),
              expiresAtUs:
                rest.expiresAtUs === undefined
                  ? known.expiresAtUs
                  : (rest.expiresAtUs ?? undefined),
              attributes: now,
              sequence: ++sequence,
            });
          }
          assert.deepEqual(outcome, {
            updatedCount: changed.length,
            sequence,
          });
        };

        /** Writes of one turn share a transaction: nothing of it may be lost on its way. */
        const together = async (): Promise<void> => {
          const entryId = name();
          const fields = randomFields(random, nowUs() + 20 * tickUs);
          const feature = unitFeatures(random, 1, dimension);
          const isDeleted = random.below(2) === 0;
          trace.push(`together ${entryId} ${isDeleted ? "deleted" : "kept"}`);
          const one = await gallery();
          // Behind the check, in this order.
          const checking = one.check();
          const enrolling = one.enroll([
            { entryId, feature, ...given(fields) },
          ]);
          await setImmediate();
          await Promise.all([
            checking,
            enrolling,
            one.updateEntries({ entryIds: [entryId] }, { trackId: "t4" }),
            ...(isDeleted ? [one.deleteEntries({ entryIds: [entryId] })] : []),
          ]);
          sweep();
          sequence += 2;
          if (isDeleted) {
            model.delete(entryId);
            sequence++;
          } else
            model.set(entryId, {
              ...fields,
              ...{ entryId, feature, trackId: "t4", sequence },
              enrolledAtUs: nowUs(),
            });
          assert.equal(one.describe().sequence, sequence);
        };

        const list = async (): Promise<void> => {
          const filter = randomFilter(random);
          const pageSize = 1 + random.below(20);
          trace.push(`list ${pageSize} ${JSON.stringify(filter)}`);
          const one = await gallery();
          const wanted = visible()
            .filter((known) => holds(known, filter))
            .sort((a, b) => a.sequence - b.sequence);
          const listed: string[] = [];
          let afterSequence: number | undefined = 0;
          while (afterSequence !== undefined) {
            const page = await one.listEntries({
              ...{ filter, pageSize, afterSequence },
            });
            listed.push(...page.entries.map(({ entryId }) => entryId));
            afterSequence = page.nextSequence;
          }
          assert.deepEqual(
            listed,
            wanted.map(({ entryId }) => entryId),
          );
          const counted = new Map<string, number>();
          for (const { identity } of wanted)
            if (identity !== "")
              counted.set(identity, (counted.get(identity) ?? 0) + 1);
          const people = await one.listIdentities({ filter, pageSize: 10 });
          assert.deepEqual(
            people.identities.map(({ identity, entryCount }) => [
              identity,
              entryCount,
            ]),
            [...counted].sort(([a], [b]) => (a < b ? -1 : 1)),
          );
        };

        const wait = async (): Promise<void> => {
          open.clock.timeMs += (tickUs / 1000) * random.below(6);
          trace.push(`wait until ${open.clock.timeMs}`);
          if (random.below(2) === 0) return;
          await open.galleries.sweep();
          sweep();
          assert.equal((await gallery()).describe().sequence, sequence);
        };

        const search = async (): Promise<void> => {
          const queries = unitFeatures(random, 2, dimension);
          const filter = randomFilter(random);
          const k = 1 + random.below(20);
          trace.push(`search k ${k} ${JSON.stringify(filter)}`);
          const outcome = await (
            await gallery()
          ).search({
            queries,
            k,
            filter,
            mode: "exact",
          });
          assert.equal(outcome.sequence, sequence);
          outcome.results.forEach(({ hits }, q) => {
            const query = queries.subarray(q * dimension, (q + 1) * dimension);
            const expected = visible()
              .filter((known) => holds(known, filter))
              .map(({ entryId, feature }) => ({
                entryId,
                similarity: dot(query, feature),
              }))
              .sort((a, b) => b.similarity - a.similarity)
              .slice(0, k);
            assert.equal(hits.length, expected.length);
            hits.forEach(({ entry, similarity }, i) => {
              assert.ok(Math.abs(similarity - expected[i].similarity) < 1e-6);
              assert.equal(entry.sequence, model.get(entry.entryId)?.sequence);
            });
          });
        };

        const restart = async (): Promise<void> => {
          trace.push("restart");
          await open.close();
          open = await openGalleries(folder, { clock: open.clock });
        };

        const steps: readonly (readonly [number, () => Promise<void>])[] = [
          [0.35, enroll],
          [0.45, remove],
          [0.57, update],
          [0.62, together],
          [0.72, list],
          [0.88, search],
          [0.92, wait],
          [0.94, async () => (await gallery()).snapshot()],
          [0.96, async () => (await gallery()).rebuild()],
          [1, restart],
        ];
        try {
          for (let i = 0; i < operations; i++) {
            const at = random.uniform();
            const [, step] = steps.find(([below]) => at < below) ?? steps[0];
            await step();
            assert.equal((await gallery()).describe().entryCount, model.size);
          }
          const page = await (
            await gallery()
          ).listEntries({ pageSize: 1000, view: "feature" });
          assert.deepEqual(
            page.entries.map(
              ({ capturedAtUs, expiresAtUs, ...rest }): Partial<Known> => ({
                ...rest,
                ...{ capturedAtUs, expiresAtUs },
              }),
            ),
            visible()
              .map((known) => ({ ...known }))
              .sort((a, b) => a.sequence - b.sequence),
          );
          await open.close();
        } catch (error) {
          assert.fail(
            `${String(error)}\nafter:\n${trace.slice(-40).join("\n")}`,
          );
        }
      }));
  });
}
