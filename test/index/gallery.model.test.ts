import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { dot } from "#core/vectors";
import type { GallerySpec } from "#index/gallery-types";

import {
  inFolder,
  openGalleries,
  unitFeatures,
  type OpenGalleries,
} from "../support/galleries.js";

interface Known {
  readonly feature: Float32Array;
  readonly identity: string;
  readonly cameraId: string;
  readonly sequence: number;
}

const dimension = 12;
const operations = 250;

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

        const enroll = async (): Promise<void> => {
          const policy = (["replace", "keep", "fail"] as const)[
            random.below(3)
          ];
          const items = Array.from({ length: 1 + random.below(12) }, () => ({
            entryId: name(),
            feature: unitFeatures(random, 1, dimension),
            identity: `p${random.below(5)}`,
            cameraId: String(random.below(3)),
          }));
          trace.push(
            `enroll ${policy} ${items.map((i) => i.entryId).join(" ")}`,
          );
          const { results } = await (
            await gallery()
          ).enroll(items, {
            onExisting: policy,
          });
          items.forEach(({ entryId, ...rest }, i) => {
            const known = model.get(entryId);
            if (known !== undefined && policy === "fail")
              assert.equal(results[i].error?.code, "ENTRY_EXISTS");
            else if (known !== undefined && policy === "keep")
              assert.equal(results[i].sequence, known.sequence);
            else {
              assert.equal(results[i].sequence, ++sequence);
              model.set(entryId, { ...rest, sequence });
            }
          });
        };

        const remove = async (): Promise<void> => {
          const identity = `p${random.below(5)}`;
          const byIdentity = random.uniform() < 0.3;
          const entryIds = [name(), name(), name()];
          trace.push(
            byIdentity ? `delete ${identity}` : `delete ${entryIds.join(" ")}`,
          );
          const doomed = [...model.keys()].filter((entryId) =>
            byIdentity
              ? model.get(entryId)?.identity === identity
              : entryIds.includes(entryId),
          );
          const outcome = await (
            await gallery()
          ).deleteEntries(byIdentity ? { identity } : { entryIds });
          for (const entryId of doomed) model.delete(entryId);
          sequence += doomed.length;
          assert.deepEqual(outcome, { deletedCount: doomed.length, sequence });
        };

        const search = async (): Promise<void> => {
          const queries = unitFeatures(random, 2, dimension);
          const camera = String(random.below(3));
          const filter =
            random.uniform() < 0.5 ? { cameraNotIn: [camera] } : {};
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
            const expected = [...model]
              .filter(
                ([, { cameraId }]) =>
                  !("cameraNotIn" in filter) || cameraId !== camera,
              )
              .map(([entryId, { feature }]) => ({
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
          open = await openGalleries(folder);
        };

        const steps: readonly (readonly [number, () => Promise<void>])[] = [
          [0.45, enroll],
          [0.65, remove],
          [0.92, search],
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
            await await gallery()
          ).listEntries({
            pageSize: 1000,
            view: "feature",
          });
          assert.deepEqual(
            page.entries.map(({ entryId, sequence, feature }) => ({
              entryId,
              sequence,
              feature,
            })),
            [...model]
              .map(([entryId, { sequence, feature }]) => ({
                entryId,
                sequence,
                feature,
              }))
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
