import assert from "node:assert/strict";

/** Fails on the worst element where |actual − expected| > abs + rel·|expected|, and names it. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { abs = 0, rel = 0 }: { readonly abs?: number; readonly rel?: number },
): void {
  assert.equal(actual.length, expected.length, "number of elements");
  let worst = -1;
  let worstExcess = 0;
  for (let i = 0; i < actual.length; i++) {
    const excess =
      Math.abs(actual[i] - expected[i]) - (abs + rel * Math.abs(expected[i]));
    // Written so that NaN fails, and stays the worst.
    if (!(excess <= worstExcess)) {
      [worst, worstExcess] = [i, Number.isNaN(excess) ? Infinity : excess];
    }
  }
  assert.equal(
    worst,
    -1,
    `element ${worst}: ${actual[worst]}, expected ${expected[worst]} (abs ${abs}, rel ${rel})`,
  );
}
