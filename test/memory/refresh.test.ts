import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { averageInto } from "#memory/refresh";

import { assertClose } from "../support/close.js";

describe("averageInto", () => {
  const cases = [
    { share: 0, expected: [1, 0] },
    { share: 0.5, expected: [Math.SQRT1_2, Math.SQRT1_2] },
    { share: 1, expected: [0, 1] },
  ];
  for (const { share, expected } of cases)
    test(`takes a share of ${share} of the fresh feature and keeps the norm`, () => {
      const rows = Float32Array.of(1, 0, 1, 0);
      averageInto(rows, Float32Array.of(0, 1, 0, 1), share, 2);
      assertClose(rows, [...expected, ...expected], { abs: 1e-6 });
    });

  test("refuses fresh rows of another size, and says both", () => {
    assert.throws(
      () => averageInto(new Float32Array(4), new Float32Array(2), 1, 2),
      { name: "ShapeError", message: /\[2, 2\].*2 numbers/ },
    );
  });
});
