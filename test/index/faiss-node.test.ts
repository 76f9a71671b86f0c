import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { randomStream } from "#core/random";
import { faissNodeBinding, openBinding } from "#index/binding";
import { BindingMissingError } from "#index/errors";
import { ExactIndex } from "#index/exact";
import {
  FaissNodeIndex,
  loadFaissNode,
  type FaissNode,
} from "#index/faiss-node";
import { hnswDefaults, type IndexSpec } from "#index/index-kinds";
import { faissNodeDouble, type Holds } from "../support/faiss-node/double.js";
import {
  featureNamed,
  inFolder,
  openGalleries,
  unitFeatures,
} from "../support/galleries.js";

/** Does not compile where the package's own declarations lack something that we use. */
const declares: Holds = true;

const dimension = 12;
const model = { name: "external", version: 1 };
const specs: Readonly<Record<string, IndexSpec>> = {
  flat: { kind: "flat" },
  hnsw: hnswDefaults,
  ivf: { kind: "ivf", lists: 4, probes: 1 },
};

/** The double, and the package itself where it is installed. */
function packages(): readonly (readonly [string, FaissNode])[] {
  const double = ["the double of faiss-node", faissNodeDouble] as const;
  try {
    return [double, ["faiss-node", loadFaissNode()]];
  } catch (error) {
    assert.ok(error instanceof BindingMissingError);
    return [double];
  }
}

for (const [what, faissNode] of packages())
  for (const [kind, spec] of Object.entries(specs))
    describe(`an index of ${what}, ${kind}`, () => {
      test("finds what an exact search finds, under random writes", async () => {
        assert.ok(declares);
        const index = new FaissNodeIndex(spec, dimension, faissNode);
        const model = new ExactIndex(spec, dimension);
        const random = randomStream(7, `faiss-node ${kind}`);
        const live: number[] = [];
        for (let step = 0; step < 40; step++) {
          const count = 1 + random.below(60);
          const fresh = Float64Array.from(
            { length: count },
            (_, i) => 1000 * step + i,
          );
          const rows = unitFeatures(random, count, dimension);
          await Promise.all([index.add(fresh, rows), model.add(fresh, rows)]);
          live.push(...fresh);
          const gone = Float64Array.from(
            { length: random.below(30) },
            () => live[random.below(live.length)],
          );
          const changed = Float64Array.of(live[random.below(live.length)]);
          const row = unitFeatures(random, 1, dimension);
          for (const one of [index, model]) {
            await one.remove(gone);
            await one.update(changed, row);
          }
          if (step % 10 === 9) await index.compact();
          const queries = unitFeatures(random, 3, dimension);
          const filter = {
            mode: random.below(2) === 0 ? "only" : "except",
            ids: Float64Array.from(live.filter((id) => id % 3 === 0)),
          } as const;
          for (const options of [
            { k: 5 },
            { k: 2000 },
            { k: 5, mode: "exact" as const },
            { k: 5, filter },
          ]) {
            const found = await index.search(queries, options);
            const expected = await model.search(queries, options);
            assert.deepEqual(found.ids, expected.ids);
            found.similarities.forEach((value, i) =>
              assert.ok(
                value === expected.similarities[i] ||
                  Math.abs(value - expected.similarities[i]) < 1e-6,
              ),
            );
          }
          assert.deepEqual(
            (await index.ids()).sort(),
            (await model.ids()).sort(),
          );
        }
        await index.close();
        await model.close();
        await assert.rejects(
          index.search(unitFeatures(random, 1, dimension), { k: 1 }),
          { code: "CLOSED" },
        );
      });
    });

describe("a gallery on faiss-node", () => {
  test("answers as it should, also after a restart", () =>
    inFolder(async (folder) => {
      const binding = faissNodeBinding(faissNodeDouble);
      let open = await openGalleries(folder, { binding });
      const door = await open.galleries.create({
        ...{ name: "door", model, dimension },
      });
      await door.enroll(
        Array.from({ length: 300 }, (_, i) => ({
          entryId: `e${i}`,
          feature: featureNamed(`e${i}`, dimension),
        })),
      );
      await door.deleteEntries({ entryIds: ["e7"] });
      for (let start = 0; start < 2; start++) {
        const gallery = await open.galleries.get("door");
        for (const [name, nearest] of [
          ["e5", true],
          ["e7", false],
        ] as const) {
          const queries = featureNamed(name, dimension);
          const { results } = await gallery.search({ queries, k: 1 });
          assert.equal(results[0].hits[0].entry.entryId === name, nearest);
        }
        await open.close();
        open = await openGalleries(folder, { binding });
      }
      await open.close();
    }));
});

describe("the binding that is named", () => {
  test("is refused where it is not there", () => {
    const isInstalled = packages().length > 1;
    if (isInstalled) return;
    assert.throws(() => openBinding("faiss-node", { warn: () => undefined }), {
      code: "NATIVE_BINDING_MISSING",
    });
  });

  test("is said once in the log where it is not the addon", () => {
    const said: string[] = [];
    openBinding("exact", { warn: (message) => said.push(message) });
    assert.equal(said.length, 1);
    assert.match(said[0], /searched exactly by onnxruntime/);
  });
});
