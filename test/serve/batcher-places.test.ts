import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { Batcher } from "#serve/batcher";

function createBatcher() {
  return new Batcher<number, number>({
    maxBatch: 4,
    windowMs: 0,
    queueLimits: { interactive: 2, bulk: 2 },
    slots: 1,
    clock: systemClock,
    run: (_, jobs) => Promise.resolve(jobs),
  });
}

describe("places in a batcher", () => {
  const { signal } = new AbortController();

  test("gives a place at once while there is one, then in turn as places are given back", async () => {
    const batcher = createBatcher();
    const first = batcher.place("interactive", signal);
    const second = batcher.place("interactive", signal);
    assert.ok(!(first instanceof Promise) && !(second instanceof Promise));
    const order: string[] = [];
    const third = Promise.resolve(batcher.place("interactive", signal));
    const fourth = Promise.resolve(batcher.place("interactive", signal));
    void third.then(() => order.push("third"));
    void fourth.then(() => order.push("fourth"));
    assert.throws(() => batcher.reserve("interactive", 1), {
      code: "OVERLOADED",
    });
    first.leave();
    first.leave();
    (await third).leave();
    await fourth;
    assert.deepEqual(order, ["third", "fourth"]);
    assert.equal(batcher.depth("interactive"), 2);
    await batcher.close();
  });

  test("waits no longer for a place once the signal aborts", async () => {
    const batcher = createBatcher();
    batcher.reserve("bulk", 2);
    const abort = new AbortController();
    const waiting = Promise.resolve(batcher.place("bulk", abort.signal));
    abort.abort();
    await assert.rejects(waiting, { code: "CANCELLED" });
    await assert.rejects(Promise.resolve(batcher.place("bulk", abort.signal)), {
      code: "CANCELLED",
    });
    await batcher.close();
  });

  test("lets nobody wait for a place once it is closed", async () => {
    const batcher = createBatcher();
    batcher.reserve("bulk", 2);
    const waiting = Promise.resolve(batcher.place("bulk", signal));
    await batcher.close();
    const place = await waiting;
    await assert.rejects(batcher.submit({ job: 1, lane: "a", place }), {
      code: "CLOSED",
    });
    assert.throws(() => batcher.place("bulk", signal), { code: "CLOSED" });
  });
});
