import assert from "node:assert/strict";
import { describe, test } from "node:test";

import fc from "fast-check";

import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { HybridMemory, UNLABELLED } from "#memory/hybrid-memory";

import { assertClose } from "../support/close.js";

const DIMENSION = 6;
/** Fixed, so that a failure can be had again. */
const RUNS = { seed: 1, numRuns: 100 };

describe("HybridMemory", () => {
  test("keeps each prototype the mean of its rows, whatever is updated in whatever order", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 0, max: 1000 }),
        fc.array(fc.array(fc.nat(11), { maxLength: 8 }), { maxLength: 20 }),
        (rowCount, seed, batches) => {
          const stream = randomStream(seed, "memory property");
          const memory = new HybridMemory({
            rows: unitRows(rowCount, seed),
            dimension: DIMENSION,
            sourceClasses: Math.min(2, rowCount),
            memoryMomentum: 0.2,
          });
          memory.setLabels(
            Int32Array.from({ length: rowCount }, () => stream.below(9) - 1),
          );
          for (const batch of batches) {
            const rows = Int32Array.from(batch, (row) => row % rowCount);
            const features = unitRows(rows.length, stream.below(1000));
            if (rows.every((row) => row < memory.sourceClasses))
              memory.updateSourceMean(rows, features);
            else memory.update(rows, features);
          }
          const kept = memory.prototypes.slice();
          memory.recomputePrototypes();
          assertClose(kept, memory.prototypes, { abs: 1e-5 });
          for (let r = 0; r < rowCount; r++) {
            const row = memory.rows.subarray(
              r * DIMENSION,
              (r + 1) * DIMENSION,
            );
            assertClose([Math.hypot(...row)], [1], { abs: 1e-5 });
            assert.equal(
              memory.prototypeOf[r] === UNLABELLED,
              memory.labels[r] === UNLABELLED,
            );
          }
        },
      ),
      RUNS,
    );
  });

  test("moves a source row once a batch, towards the mean of its class", () => {
    const rows = Float32Array.of(1, 0);
    const memory = new HybridMemory({
      rows,
      dimension: 2,
      sourceClasses: 1,
      memoryMomentum: 0.5,
    });
    memory.updateSourceMean(Int32Array.of(0, 0), Float32Array.of(0, 1, 0, 1));
    assertClose(rows, [Math.SQRT1_2, Math.SQRT1_2], { abs: 1e-6 });
    memory.update(Int32Array.of(0, 0), Float32Array.of(0, 1, 0, 1));
    assert.ok(rows[1] > 0.97, "twice when one after another");
  });

  test("leaves unlabelled rows out of every prototype", () => {
    const memory = new HybridMemory({
      rows: unitRows(4, 1),
      dimension: DIMENSION,
      sourceClasses: 1,
      memoryMomentum: 0.2,
    });
    memory.setTargetLabels(Int32Array.of(7, UNLABELLED, 7));
    assert.equal(memory.prototypeCount, 2);
    assert.deepEqual([...memory.prototypeOf], [0, 1, UNLABELLED, 1]);
    assert.deepEqual([...memory.memberCounts], [1, 2]);
    const before = memory.prototypes.slice();
    memory.update(Int32Array.of(2), unitRows(1, 5));
    assert.deepEqual(memory.prototypes, before);
  });

  test("refuses buffers of another shape, and says both", () => {
    const memory = new HybridMemory({
      rows: unitRows(2, 1),
      dimension: DIMENSION,
      sourceClasses: 0,
      memoryMomentum: 0.2,
    });
    assert.throws(() => memory.setLabels(new Int32Array(3)), {
      name: "ShapeError",
      message: /\[2\].*\[3\]/,
    });
    assert.throws(() => memory.update(new Int32Array(2), new Float32Array(3)), {
      name: "ShapeError",
      message: /\[2, 6\].*3 numbers/,
    });
  });
});

function unitRows(count: number, seed: number): Float32Array {
  const stream = randomStream(seed, "unit rows");
  return normalizeRows(
    Float32Array.from({ length: count * DIMENSION }, () => stream.normal()),
    DIMENSION,
  );
}
