import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { entryToWire } from "#serve/entries";
import { serviceDefinition } from "#serve/services/definitions";
import { searchResponse, type Answer } from "#serve/services/search-response";
import { unitFeature } from "../support/wire-server.js";

const model = { name: "door", version: 1 };
const count = 10_000;
const feature = new Float32Array(new Uint8Array(unitFeature(1).f32le).buffer);

/** One hit: every third entry has an identity of its own, the others share one. */
const hitOf = (i: number) => ({
  entry: {
    entryId: `e${i}`,
    identity: i % 3 === 0 ? `p${i}` : "many",
    cameraId: "c",
    trackId: "",
    capturedAtUs: 1_700_000_000_123_456,
    attributes: { hat: "red" },
    enrolledAtUs: 1_700_000_000_000_000 + i,
    sequence: i + 1,
  },
  similarity: Math.fround(1 - i / count),
  ...(i % 2 === 0 ? { rerankDistance: Math.fround(i / count) } : {}),
});
const hits = Array.from({ length: count }, (_, i) => hitOf(i));
const wireHit = ({ entry, ...rest }: (typeof hits)[number]) => ({
  entry: entryToWire(entry, model),
  ...rest,
});
const error = { reason: "ENTRY_NOT_FOUND", code: 5, message: "there is none" };
const answers: readonly Answer[] = [
  { queryId: "all", found: { hits, exact: true }, feature },
  { queryId: "none", error },
  { queryId: "few", found: { hits: hits.slice(0, 3), exact: false }, feature },
  { queryId: "", found: { hits: [], exact: true }, feature },
];
const { Search } = serviceDefinition("SearchService");

/** What a client reads of a message that is written at once. */
const readBack = (message: Parameters<typeof Search.responseSerialize>[0]) =>
  Search.responseDeserialize(Search.responseSerialize(message));

describe("a search's answer that is written in turns", () => {
  test("is the message that is written at once", async () => {
    const bytes = await searchResponse(answers, {
      model,
      envelope: { k: count, group: undefined, view: "feature" },
      sequence: 77,
    });
    const own = { f32le: Buffer.from(feature.buffer), model };
    assert.deepEqual(
      Search.responseDeserialize(bytes),
      readBack({
        results: [
          {
            queryId: "all",
            exact: true,
            feature: own,
            hits: hits.map(wireHit),
          },
          { queryId: "none", error },
          {
            ...{ queryId: "few", exact: false, feature: own },
            hits: hits.slice(0, 3).map(wireHit),
          },
          { queryId: "", exact: true, feature: own },
        ],
        model,
        sequence: "77",
      }),
    );
  });

  test("is so where identities are listed", async () => {
    const bytes = await searchResponse(answers.slice(0, 1), {
      model,
      envelope: { k: 2, group: { hitsPerIdentity: 2 }, view: "basic" },
      sequence: 77,
    });
    const [first, second, third] = hits;
    assert.deepEqual(
      Search.responseDeserialize(bytes),
      readBack({
        results: [
          {
            ...{ queryId: "all", exact: true },
            identities: [
              { identity: "p0", similarity: 1, hits: [wireHit(first)] },
              {
                identity: "many",
                similarity: second.similarity,
                hits: [wireHit(second), wireHit(third)],
              },
            ],
          },
        ],
        model,
        sequence: "77",
      }),
    );
  });

  test("lets others have their turn", async () => {
    let turns = 0;
    let isDone = false;
    const other = (async () => {
      for (; !isDone; turns++) await setImmediate();
    })();
    await searchResponse(answers, {
      model,
      envelope: { k: count, group: undefined, view: "basic" },
      sequence: 77,
    });
    isDone = true;
    await other;
    assert.ok(turns >= count / 256, `${turns} turns`);
  });
});
