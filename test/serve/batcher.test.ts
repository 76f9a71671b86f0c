import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { Batcher, type Priority } from "#serve/batcher";
import { SteppedClock } from "../support/galleries.js";

/** A batch that ends when it is told to. */
interface Running {
  readonly lane: string;
  readonly jobs: readonly string[];
  end(): void;
  fail(error: unknown): void;
}

/** A batcher that upper-cases words, one batch at a time, and the batches it started. */
function create(
  options: {
    readonly maxBatch?: number;
    readonly limit?: number;
    readonly windowMs?: number;
    readonly clock?: SteppedClock;
  } = {},
) {
  const { maxBatch = 2, limit = 8, windowMs = 0 } = options;
  const started: Running[] = [];
  const batcher = new Batcher<string, string>({
    maxBatch,
    windowMs,
    queueLimits: { interactive: limit, bulk: limit },
    slots: 1,
    clock: options.clock ?? systemClock,
    run: (lane, jobs) =>
      new Promise((resolve, reject) => {
        const end = () => resolve(jobs.map((job) => job.toUpperCase()));
        started.push({ lane, jobs, end, fail: reject });
      }),
  });
  const submit = (
    job: string,
    more: {
      readonly priority?: Priority;
      readonly lane?: string;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<string> => {
    const { priority = "interactive", lane = "door/1", signal } = more;
    const [place] = batcher.reserve(priority, 1);
    return batcher.submit({ job, lane, place, signal });
  };
  return { batcher, started, submit };
}

type Created = ReturnType<typeof create>;

/** What is true of a batcher, and how it got there; `end` lets go of what runs. */
const states: Readonly<
  Record<string, (created: Created) => { readonly end: () => Promise<unknown> }>
> = {
  idle: () => ({ end: () => Promise.resolve() }),
  running: ({ submit, started }) => {
    const first = submit("first");
    return { end: () => (started[0].end(), first) };
  },
  "queue full": ({ submit, started, batcher }) => {
    const first = submit("first");
    const places = batcher.reserve("interactive", batcher.limit("interactive"));
    return {
      end: () => {
        for (const place of places) place.leave();
        started[0].end();
        return first;
      },
    };
  },
  closing: ({ submit, started, batcher }) => {
    const first = submit("first");
    const closed = batcher.close();
    return { end: () => (started[0].end(), Promise.all([first, closed])) };
  },
  closed: ({ batcher }) => {
    const closed = batcher.close();
    return { end: () => closed };
  },
};

/** Every method in every state: allowed, or the code of its refusal. */
const methods: Readonly<
  Record<
    string,
    {
      readonly call: (created: Created) => unknown;
      readonly refusedWhile: Readonly<Record<string, string>>;
    }
  >
> = {
  depth: {
    call: ({ batcher }) => batcher.depth("interactive"),
    refusedWhile: {},
  },
  limit: { call: ({ batcher }) => batcher.limit("bulk"), refusedWhile: {} },
  reserve: {
    call: ({ batcher }) =>
      batcher.reserve("interactive", 1).forEach((place) => place.leave()),
    refusedWhile: {
      "queue full": "OVERLOADED",
      closing: "CLOSED",
      closed: "CLOSED",
    },
  },
  "reserve for bulk": {
    call: ({ batcher }) =>
      batcher.reserve("bulk", 1).forEach((place) => place.leave()),
    refusedWhile: { closing: "CLOSED", closed: "CLOSED" },
  },
  "submit in a place taken before": {
    // Not awaited while open: the batch before it has not ended.
    call: ({ batcher }) => {
      const place = { priority: "bulk", leave: () => undefined } as const;
      const submitted = batcher.submit({ job: "x", lane: "door/1", place });
      submitted.catch(() => undefined);
      return Promise.race([submitted, settled()]);
    },
    refusedWhile: { closing: "CLOSED", closed: "CLOSED" },
  },
  "submit with a signal that has fired": {
    call: ({ batcher }) =>
      batcher.submit({
        job: "x",
        lane: "door/1",
        place: { priority: "bulk", leave: () => undefined },
        signal: AbortSignal.abort(),
      }),
    refusedWhile: {
      idle: "CANCELLED",
      running: "CANCELLED",
      "queue full": "CANCELLED",
      closing: "CLOSED",
      closed: "CLOSED",
    },
  },
};

describe("Batcher, every method in every state", () => {
  for (const [state, enter] of Object.entries(states))
    for (const [method, { call, refusedWhile }] of Object.entries(methods)) {
      const code = refusedWhile[state];
      test(`${code === undefined ? "allows" : "refuses"} ${method} while ${state}`, async () => {
        const created = create();
        const { end } = enter(created);
        const called = Promise.resolve().then(() => call(created));
        if (code === undefined) await called;
        else await assert.rejects(called, { code });
        const ended = end();
        // A job that the call left behind is in the next batch.
        await settled();
        created.started[1]?.end();
        await ended;
        created.started[0]?.end();
        await created.batcher.close();
        await created.batcher.close();
      });
    }
});

describe("Batcher", () => {
  test("fills batches of one lane, oldest first, and gives each job its own result", async () => {
    const { submit, started } = create({ maxBatch: 3 });
    const results = [
      submit("a"),
      submit("b"),
      submit("c", { lane: "door/2" }),
      submit("d"),
    ];
    assert.deepEqual(started[0].jobs, ["a"]);
    started[0].end();
    await results[0];
    await settled();
    assert.deepEqual(
      [started[1].lane, started[1].jobs],
      ["door/1", ["b", "d"]],
    );
    started[1].end();
    await Promise.all([results[1], results[3]]);
    await settled();
    assert.deepEqual([started[2].lane, started[2].jobs], ["door/2", ["c"]]);
    started[2].end();
    assert.deepEqual(await Promise.all(results), ["A", "B", "C", "D"]);
  });

  test("gives every tenth place to the oldest bulk job, so that it waits but never starves", async () => {
    const { submit, started, batcher } = create({ maxBatch: 32, limit: 64 });
    const first = submit("first");
    const waiting = [
      submit("bulk", { priority: "bulk" }),
      ...Array.from({ length: 20 }, (_, i) => submit(`${i}`)),
    ];
    started[0].end();
    await first;
    await settled();
    // The place of `first` counts as the first of the ten.
    assert.equal(started[1].jobs.indexOf("bulk"), 8);
    started[1].end();
    await Promise.all(waiting);
    await batcher.close();
  });

  test("refuses more places than are left, all or none, and says how many there are", () => {
    const { batcher } = create({ limit: 4 });
    const places = batcher.reserve("interactive", 3);
    assert.throws(() => batcher.reserve("interactive", 2), {
      code: "OVERLOADED",
      kind: "resource-exhausted",
      message: /3.*4|4.*3/,
    });
    assert.equal(batcher.depth("interactive"), 3);
    places[0].leave();
    places[0].leave();
    assert.equal(batcher.depth("interactive"), 2);
    batcher.reserve("interactive", 2);
    assert.equal(batcher.depth("interactive"), 4);
  });

  test("refuses what cannot be done in the time that is left", async () => {
    const clock = new SteppedClock();
    const { batcher, submit, started } = create({ clock });
    const first = submit("a");
    clock.timeMs += 100;
    started[0].end();
    await first;
    batcher.reserve("interactive", 3);
    batcher.reserve("interactive", 1, 301);
    assert.throws(() => batcher.reserve("interactive", 1, 299), {
      code: "OVERLOADED",
    });
  });

  test("lets a job go whose signal fires in the queue, and says who ended it", async () => {
    const { batcher, submit, started } = create();
    const first = submit("first");
    const caller = new AbortController();
    const deadline = new AbortController();
    const cancelled = submit("a", { signal: caller.signal });
    const late = submit("b", { signal: deadline.signal });
    caller.abort();
    deadline.abort(new DOMException("over", "TimeoutError"));
    await assert.rejects(cancelled, {
      code: "CANCELLED",
      facts: { stage: "queue" },
    });
    await assert.rejects(late, { code: "DEADLINE", facts: { stage: "queue" } });
    assert.equal(batcher.depth("interactive"), 0);
    started[0].end();
    assert.equal(await first, "FIRST");
    assert.equal(started.length, 1);
  });

  test("answers a job at once whose signal fires in a batch, and its neighbours as ever", async () => {
    const { submit, started } = create();
    const first = submit("first");
    const caller = new AbortController();
    const leaving = submit("a", { signal: caller.signal });
    const staying = submit("b");
    started[0].end();
    await first;
    await settled();
    assert.deepEqual(started[1].jobs, ["a", "b"]);
    caller.abort();
    await assert.rejects(leaving, {
      code: "CANCELLED",
      facts: { stage: "encoder" },
    });
    started[1].end();
    assert.equal(await staying, "B");
  });

  test("fails every job of a batch that fails, and goes on with the next", async () => {
    const { submit, started } = create();
    const first = submit("first");
    const [a, b, c] = ["a", "b", "c"].map((job) => submit(job));
    started[0].end();
    await first;
    await settled();
    started[1].fail(new RangeError("no memory"));
    for (const job of [a, b]) await assert.rejects(job, RangeError);
    await settled();
    started[2].end();
    assert.equal(await c, "C");
  });

  test("waits the window out for company, no longer than for a full batch", async () => {
    const { submit, started } = create({ windowMs: 60_000 });
    const alone = submit("a");
    await settled();
    assert.equal(started.length, 0);
    const company = submit("b");
    assert.deepEqual(started[0].jobs, ["a", "b"]);
    started[0].end();
    assert.deepEqual(await Promise.all([alone, company]), ["A", "B"]);
  });

  test("fails what is queued when it closes, and waits for what runs", async () => {
    const { batcher, submit, started } = create();
    const first = submit("first");
    const queued = submit("a");
    let isClosed = false;
    const closed = batcher.close().then(() => (isClosed = true));
    await assert.rejects(queued, { code: "CLOSED" });
    assert.equal(batcher.depth("interactive"), 0);
    await settled();
    assert.equal(isClosed, false);
    started[0].end();
    assert.equal(await first, "FIRST");
    await closed;
  });
});

/** Lets every promise that can settle do so. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
