import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Rounds } from "#index/rounds";

/** Rounds that end when the test says so. */
function steppedRounds() {
  const begun: ((failure?: Error) => void)[] = [];
  const rounds = new Rounds(
    () =>
      new Promise((resolve, reject) =>
        begun.push((failure) =>
          failure === undefined ? resolve() : reject(failure),
        ),
      ),
  );
  const told: string[] = [];
  const ask = (name: string): void => {
    rounds.ask().then(
      () => told.push(name),
      (error: Error) => told.push(`${name}: ${error.message}`),
    );
  };
  const settled = () => new Promise(setImmediate);
  return { begun, told, ask, settled };
}

describe("rounds", () => {
  test("serve those who asked before they began, one behind the other, in the order in which they asked", async () => {
    const { begun, told, ask, settled } = steppedRounds();
    ask("a");
    ask("b");
    await settled();
    assert.equal(begun.length, 1);
    // It has begun: what they ask for may have come too late for it.
    ask("c");
    ask("d");
    await settled();
    assert.equal(begun.length, 1);
    begun[0]();
    await settled();
    assert.deepEqual(told, ["a", "b"]);
    assert.equal(begun.length, 2);
    begun[1]();
    await settled();
    assert.deepEqual(told, ["a", "b", "c", "d"]);
    assert.equal(begun.length, 2, "a round that nobody asked for");
  });

  test("fail for those whom they serve, and the next goes on", async () => {
    const { begun, told, ask, settled } = steppedRounds();
    ask("a");
    await settled();
    ask("b");
    begun[0](new RangeError("no"));
    await settled();
    begun[1]();
    await settled();
    assert.deepEqual(told, ["a: no", "b"]);
  });
});
