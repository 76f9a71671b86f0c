import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { dot } from "#core/vectors";
import { faissMissing } from "#index/faiss";
import { hnswDefaults, trainedFrom, type IndexSpec } from "#index/index-kinds";

import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";

const dimension = 16;
const specs: Readonly<Record<string, IndexSpec>> = {
  "flat in f16": { kind: "flat", storage: "f16" },
  "flat in int8": { kind: "flat", storage: "int8" },
  "hnsw in f16": { ...hnswDefaults, storage: "f16" },
  ivf: { kind: "ivf", lists: 4, probes: 2 },
  "ivf in int8": { kind: "ivf", lists: 4, probes: 2, storage: "int8" },
  "ivf with a product code": {
    kind: "ivf",
    lists: 4,
    probes: 2,
    pq: { segments: 4, bits: 4 },
  },
};

for (const [name, index] of Object.entries(specs)) {
  describe(
    `gallery on ${name}`,
    {
      skip: faissMissing()?.message ?? false,
    },
    () => {
      test("finds exactly what a double loop finds, with similarities of the features themselves", () =>
        inFolder(async (folder) => {
          let open = await openGalleries(folder, { exactBelow: 0 });
          let gallery = await open.galleries.create({
            name: "door",
            model: { name: "external", version: 1 },
            dimension,
            index,
          });
          // One more than the index is trained on.
          const count = Math.max(400, trainedFrom(index) + 1);
          const features = new Map<string, Float32Array>();
          for (let start = 0; start < count; start += 1000) {
            const named = Array.from(
              { length: Math.min(1000, count - start) },
              (_, i) => `e${start + i}`,
            );
            const written = await gallery.enroll(
              named.map((entryId) => {
                const feature = featureNamed(entryId, dimension);
                features.set(entryId, feature);
                return { entryId, feature };
              }),
            );
            assert.equal(written.results.length, named.length);
          }
          for (const round of ["written", "reopened"]) {
            for (const query of ["q1", "q2", "q3"]) {
              const queries = featureNamed(query, dimension);
              const expected = [...features]
                .map(([id, feature]) => ({
                  id,
                  similarity: dot(queries, feature),
                }))
                .sort((a, b) => b.similarity - a.similarity);
              const { results } = await gallery.search({
                queries,
                k: 10,
                mode: "exact",
                withFeatures: true,
              });
              const [{ hits, exact, features: found }] = results;
              assert.equal(exact, true);
              hits.forEach(({ entry, similarity }, i) => {
                assert.equal(
                  entry.entryId,
                  expected[i].id,
                  `${round} ${query}`,
                );
                assert.ok(Math.abs(similarity - expected[i].similarity) < 1e-6);
                assert.deepEqual(
                  found?.subarray(i * dimension, (i + 1) * dimension),
                  features.get(entry.entryId),
                );
              });
              const near = await gallery.search({ queries, k: 10 });
              for (const { entry, similarity } of near.results[0].hits) {
                const feature = features.get(entry.entryId);
                assert.ok(feature !== undefined);
                assert.ok(Math.abs(similarity - dot(queries, feature)) < 1e-6);
              }
            }
            if (round === "reopened") break;
            await open.close();
            open = await openGalleries(folder, { exactBelow: 0 });
            gallery = await open.galleries.get("door");
          }
          await open.close();
        }));
    },
  );
}
