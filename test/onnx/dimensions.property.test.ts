import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  addDims,
  ceilDivideDims,
  divideDimsExactly,
  floorDivideDims,
  multiplyDims,
  subtractDims,
} from "#onnx/dimensions";
import type { Dimension } from "#onnx/graph";
import { evaluateDims } from "../support/dimensions.js";

/** Dimensions as they arise: numbers, names, and sums and products of those. */
const dimension: fc.Arbitrary<Dimension> = fc.letrec<{ dim: Dimension }>(
  (tie) => ({
    dim: fc.oneof(
      { maxDepth: 3 },
      fc.integer({ min: 0, max: 9 }),
      fc.constantFrom("batch", "height", "width"),
      fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => addDims(a, b)),
      fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => multiplyDims(a, b)),
      fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => subtractDims(a, b)),
      fc
        .tuple(tie("dim"), fc.integer({ min: 1, max: 4 }))
        .map(([a, b]) => floorDivideDims(a, b)),
    ),
  }),
).dim;

const symbols = { batch: 5, height: 7, width: 3 };
const valueOf = (dim: Dimension) => evaluateDims([dim], symbols)[0];
const settings = { seed: 4, numRuns: 500 };

describe("symbolic dimensions", () => {
  const pairs = [dimension, dimension] as const;

  test("add, subtract and multiply like the numbers they stand for", () => {
    fc.assert(
      fc.property(...pairs, (a, b) => {
        assert.equal(valueOf(addDims(a, b)), valueOf(a) + valueOf(b));
        assert.equal(valueOf(subtractDims(a, b)), valueOf(a) - valueOf(b));
        // + 0 makes −0 a plain zero.
        assert.equal(
          valueOf(multiplyDims(a, b)) + 0,
          valueOf(a) * valueOf(b) + 0,
        );
      }),
      settings,
    );
  });

  test("divide like the numbers they stand for", () => {
    fc.assert(
      fc.property(dimension, fc.integer({ min: 1, max: 6 }), (a, b) => {
        assert.equal(
          valueOf(floorDivideDims(a, b)),
          Math.floor(valueOf(a) / b),
        );
        assert.equal(valueOf(ceilDivideDims(a, b)), Math.ceil(valueOf(a) / b));
      }),
      settings,
    );
  });

  test("are written alike whatever the order they were made in", () => {
    fc.assert(
      fc.property(...pairs, (a, b) => {
        assert.equal(addDims(a, b), addDims(b, a));
        assert.equal(multiplyDims(a, b), multiplyDims(b, a));
        assert.equal(subtractDims(addDims(a, b), b), addDims(a, 0));
      }),
      settings,
    );
  });

  test("divide exactly where they were multiplied", () => {
    assert.equal(divideDimsExactly("6*batch*height", "2*height"), "3*batch");
    assert.equal(divideDimsExactly(addDims("2*batch", 4), 2), "batch + 2");
    assert.equal(divideDimsExactly("batch", 2), undefined);
    assert.equal(divideDimsExactly("batch", 0), undefined);
  });
});
