import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { faissMissing } from "#index/faiss";

import { unitFeatures } from "../support/galleries.js";
import { groupedIds } from "../support/gallery-model.js";
import { engines } from "../support/scaled.js";

const dimension = 8;
const count = 500;

for (const engine of engines)
  describe(
    `a grouped search, ${engine.name} engine`,
    { skip: engine.skip },
    () => {
      for (const kind of ["flat", "hnsw"] as const)
        test(
          `gives the first k identities with their best entries, as sorting all entries does: ${kind}`,
          {
            skip:
              engine.name === "embedded" &&
              kind === "hnsw" &&
              faissMissing()?.message,
          },
          () =>
            engine.run(async ({ galleries }) => {
              const random = randomStream(5, "groups");
              const gallery = await galleries.create({
                name: "g",
                model: { name: "external", version: 1 },
                dimension,
                index:
                  kind === "flat"
                    ? { kind }
                    : { kind, m: 16, efConstruction: 80, efSearch: 400 },
              });
              // One identity has 300 of the 500 entries, some have one, some entries have none.
              const features = unitFeatures(random, count, dimension);
              await gallery.enroll(
                Array.from({ length: count }, (_, i) => ({
                  entryId: `e${i}`,
                  feature: features.slice(i * dimension, (i + 1) * dimension),
                  identity:
                    i < 300 ? "many" : i < 360 ? "" : `p${random.below(40)}`,
                  cameraId: String(i % 3),
                })),
              );
              const queries = features.slice(0, 3 * dimension);
              const indexed = {
                freshness: "indexed",
                minSequence: count,
              } as const;
              await gallery.search({ queries, k: 1, ...indexed });
              const everything = async (request: object) => {
                const { results } = await gallery.search({
                  ...{ queries, k: count, mode: "exact" },
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
                    queries,
                    k,
                    group: { hitsPerIdentity },
                    ...more,
                  });
                  for (const [q, { hits }] of results.entries())
                    assert.deepEqual(
                      hits.map(({ entry }) => entry.entryId),
                      groupedIds(all[q].hits, k, hitsPerIdentity),
                      `query ${q}, k ${k}, ${hitsPerIdentity} each, ${JSON.stringify(more)}`,
                    );
                }
            }),
        );

      test("of an empty gallery finds nothing", () =>
        engine.run(async ({ galleries }) => {
          const gallery = await galleries.create({
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
        }));
    },
  );
