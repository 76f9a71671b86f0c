import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { identificationFrom } from "#serve/identification";
import { Lanes } from "#serve/lanes";
import { assertClose } from "../support/close.js";

const thresholds = { minSimilarity: 0.6, minMargin: 0.05 };
const entry = (identity: string, similarity: number, entryId = identity) => ({
  identity,
  similarity,
  entryId,
});

describe("identificationFrom", () => {
  const cases = [
    ["known", [0.9, 0.5]],
    ["known", [0.6]],
    ["known", [0.8, 0.75]],
    ["ambiguous", [0.8, 0.76]],
    ["ambiguous", [0.8, 0.8]],
    ["new", [0.59, 0.1]],
    ["new", []],
  ] as const;
  for (const [decision, similarities] of cases)
    test(`says ${decision} of ${similarities.join(", ") || "nothing found"}`, () => {
      const found = identificationFrom(
        // In float64 0.8 − 0.75 is a hair over 0.05: the margin is inclusive.
        similarities.map((similarity, i) => entry(`p${i}`, similarity)),
        thresholds,
      );
      assert.equal(found.decision, decision);
      const weights = similarities.map((s) => Math.exp(s / 0.05));
      const nobody = Math.exp(0.6 / 0.05);
      const sum = weights.reduce((a, b) => a + b, nobody);
      assertClose(
        found.candidates.map(({ confidence }) => confidence),
        weights.map((weight) => weight / sum),
        { rel: 1e-12 },
      );
      const shares = found.candidates.map(({ confidence }) => confidence);
      const total = shares.reduce((a, b) => a + b, nobody / sum);
      assertClose([total], [1], { abs: 1e-12 });
      const wanted = decision === "new" ? nobody / sum : shares[0];
      assertClose([found.confidence], [wanted], { rel: 1e-12 });
    });

  test("takes each identity's best entry", () => {
    const { candidates } = identificationFrom(
      [entry("a", 0.9, "1"), entry("b", 0.8, "2"), entry("a", 0.7, "3")],
      thresholds,
    );
    assert.deepEqual(
      candidates.map(({ identity, entryId }) => [identity, entryId]),
      [
        ["a", "1"],
        ["b", "2"],
      ],
    );
  });

  test("stays finite at the ends of the range", () => {
    const { confidence } = identificationFrom([entry("a", 1), entry("b", -1)], {
      minSimilarity: -1,
      minMargin: 0,
    });
    assert.ok(confidence > 0.999 && confidence <= 1);
  });
});

describe("Lanes", () => {
  const never = new AbortController().signal;
  const gate = () => {
    let open: () => void = () => undefined;
    const opened = new Promise<void>((resolve) => (open = resolve));
    return { open, opened };
  };

  test("do one name's work in order, another's beside it", async () => {
    const lanes = new Lanes();
    const { open, opened } = gate();
    const done: string[] = [];
    const first = lanes.inTurn("a", never, async () => {
      await opened;
      done.push("a1");
    });
    const second = lanes.inTurn("a", never, async () => {
      done.push("a2");
    });
    await lanes.inTurn("b", never, async () => {
      done.push("b");
    });
    open();
    await Promise.all([first, second]);
    assert.deepEqual(done, ["b", "a1", "a2"]);
  });

  test("go on behind work that fails, and behind a caller that leaves while it waits", async () => {
    const lanes = new Lanes();
    const { open, opened } = gate();
    const failing = lanes.inTurn("a", never, async () => {
      await opened;
      throw new RangeError("no");
    });
    const abort = new AbortController();
    const leaving = lanes.inTurn("a", abort.signal, async () => "unreached");
    const last = lanes.inTurn("a", never, async () => "last");
    abort.abort(new RangeError("left"));
    await assert.rejects(leaving, /left/);
    let isLast = false;
    void last.then(() => (isLast = true));
    await Promise.resolve();
    assert.equal(isLast, false, "the one before has not ended");
    open();
    await assert.rejects(failing, /no/);
    assert.equal(await last, "last");
  });
});
