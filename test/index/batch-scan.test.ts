import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import { FaissIndex, faissMissing } from "#index/faiss";

import { unitFeatures } from "../support/galleries.js";

const skip = faissMissing()?.message ?? false;
const dimension = 65;
const count = 3000;

/** Rows with exact ties (copies), near ties (the last bit), and lengths from 10⁻³ to 10³. */
function awkwardRows(seed: number): Float32Array {
  const random = randomStream(seed, "batch scan");
  const rows = unitFeatures(random, count, dimension);
  for (let i = 1; i < count; i++) {
    const row = rows.subarray(i * dimension, (i + 1) * dimension);
    const kind = random.below(4);
    if (kind === 0) row.set(rows.subarray(0, dimension));
    if (kind === 1) {
      row.set(rows.subarray(0, dimension));
      row[random.below(dimension)] *= 1 + 2 ** -22;
    }
    if (kind === 2) {
      const length = 10 ** (random.uniform() * 6 - 3);
      row.forEach((value, d) => (row[d] = value * length));
    }
  }
  return rows;
}

describe("exact search of many queries", { skip }, () => {
  for (const seed of [1, 2, 3])
    test(`finds the ids and the bits that one query alone finds, seed ${seed}`, async () => {
      const rows = awkwardRows(seed);
      const index = FaissIndex.create({ kind: "flat" }, dimension);
      const ids = Float64Array.from({ length: count }, (_, i) => i * 3);
      await index.add(ids, rows);
      const queries = rows.slice(0, 70 * dimension);
      for (const k of [1, 10, 400])
        for (const filter of [
          undefined,
          { mode: "except", ids: ids.filter((id) => id % 2 === 0) },
        ] as const) {
          const options = { k, ...(filter === undefined ? {} : { filter }) };
          const together = await index.search(queries, options);
          for (let q = 0; q < 70; q++) {
            const alone = await index.search(
              queries.slice(q * dimension, (q + 1) * dimension),
              options,
            );
            const place = [q * k, (q + 1) * k] as const;
            assert.deepEqual(together.ids.slice(...place), alone.ids);
            assert.deepEqual(
              together.similarities.slice(...place),
              alone.similarities,
            );
          }
        }
      await index.close();
    });
});
