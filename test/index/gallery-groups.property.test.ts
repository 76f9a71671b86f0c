import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { faissMissing } from "#index/faiss";
import type { Hit } from "#index/gallery-types";

import { inFolder, openGalleries, unitFeatures } from "../support/galleries.js";

const dimension = 8;

describe("a grouped search", () => {
  for (const kind of ["flat", "hnsw"] as const)
    test(
      `gives the first k identities with their best entries, as sorting all entries does: ${kind}`,
      { skip: kind === "hnsw" && faissMissing()?.message },
      () =>
        inFolder(async (folder) => {
          const open = await openGalleries(folder);
          const random = randomStream(5, "groups");
          const gallery = await open.galleries.create({
            name: "g",
            model: { name: "external", version: 1 },
            dimension,
            index:
              kind === "flat"
                ? { kind }
                : { kind, m: 16, efConstruction: 80, efSearch: 400 },
          });
          // One identity has 300 of the 500 entries, some have one, some entries have none.
          const features = unitFeatures(random, 500, dimension);
          await gallery.enroll(
            Array.from({ length: 500 }, (_, i) => ({
              entryId: `e${i}`,
              feature: features.slice(i * dimension, (i + 1) * dimension),
              identity:
                i < 300 ? "many" : i < 360 ? "" : `p${random.below(40)}`,
              cameraId: String(i % 3),
            })),
          );
          await gallery.indexed();
          const everything = async (request: object) => {
            const { results } = await gallery.search({
              queries: features.slice(0, 3 * dimension),
              k: 500,
              mode: "exact",
              ...request,
            });
            return results;
          };
          for (const more of [
            {},
            { minSimilarity: 0.3 },
            { filter: { cameraNotIn: ["1"] } },
            { queryFilters: [undefined, { identityNotIn: ["many"] }, {}] },
          ])
            for (const [k, hitsPerIdentity] of [
              [1, 1],
              [5, 1],
              [7, 4],
              [60, 3],
              [1, 400],
              [500, 2],
            ]) {
              const all = await everything(more);
              const { results } = await gallery.search({
                queries: features.slice(0, 3 * dimension),
                k,
                group: { hitsPerIdentity },
                ...more,
              });
              for (const [q, { hits }] of results.entries())
                assert.deepEqual(
                  hits.map(({ entry }) => entry.entryId),
                  grouped(all[q].hits, k, hitsPerIdentity),
                  `query ${q}, k ${k}, ${hitsPerIdentity} each, ${JSON.stringify(more)}`,
                );
            }
          await open.close();
        }),
    );

  test("of an empty gallery finds nothing", () =>
    inFolder(async (folder) => {
      const open = await openGalleries(folder);
      const gallery = await open.galleries.create({
        name: "g",
        model: { name: "external", version: 1 },
        dimension,
        index: { kind: "flat" },
      });
      const { results } = await gallery.search({
        queries: unitFeatures(randomStream(1, "one"), 1, dimension),
        k: 3,
        group: { hitsPerIdentity: 2 },
      });
      assert.deepEqual(results, [{ hits: [], exact: true }]);
      await open.close();
    }));
});

/** Ids of the entries that count, walked one by one. */
function grouped(hits: readonly Hit[], k: number, each: number): string[] {
  const seen = new Map<string, number>();
  const chosen: string[] = [];
  for (const { entry } of hits) {
    const key =
      entry.identity === "" ? `entry ${entry.entryId}` : entry.identity;
    const count = seen.get(key) ?? 0;
    if (count === 0 && seen.size === k) continue;
    seen.set(key, count + 1);
    if (count < each) chosen.push(entry.entryId);
  }
  return chosen;
}
