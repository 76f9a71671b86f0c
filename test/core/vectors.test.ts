import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ShapeError } from "#core/errors";
import { dot, norm, normalizeRows } from "#core/vectors";

describe("normalizeRows", () => {
  test("scales each row to unit norm in place and leaves a zero row at zero", () => {
    const rows = Float32Array.of(3, 4, 0, 0);
    assert.equal(normalizeRows(rows, 2), rows);
    assert.ok(Math.abs(norm(rows.subarray(0, 2)) - 1) < 1e-7);
    assert.deepEqual([...rows.subarray(2)], [0, 0]);
  });

  test("refuses a buffer that is not [N, D], and says both shapes", () => {
    assert.throws(
      () => normalizeRows(new Float32Array(5), 2),
      (error) => {
        assert.ok(error instanceof ShapeError);
        assert.match(error.message, /\[N, 2\].*5 numbers/);
        return true;
      },
    );
  });
});

describe("dot", () => {
  test("is the inner product", () => {
    assert.equal(dot(Float32Array.of(1, 2), Float32Array.of(3, 4)), 11);
  });
});
