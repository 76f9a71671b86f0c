import assert from "node:assert/strict";

/** Fails unless two labellings join the same instances; ids may differ, a negative id is a class of one. */
export function assertSamePartition(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): void {
  assert.equal(actual.length, expected.length, "number of instances");
  const there = new Map<number, number>();
  const back = new Map<number, number>();
  for (let i = 0; i < actual.length; i++) {
    const a = actual[i] < 0 ? -1 - i : actual[i];
    const e = expected[i] < 0 ? -1 - i : expected[i];
    assert.equal(
      there.get(a) ?? e,
      e,
      `instance ${i}: joins what is apart there (ids ${actual[i]}, ${expected[i]})`,
    );
    assert.equal(
      back.get(e) ?? a,
      a,
      `instance ${i}: parts what is joined there (ids ${actual[i]}, ${expected[i]})`,
    );
    there.set(a, e);
    back.set(e, a);
  }
}
