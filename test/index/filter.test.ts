import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Filter } from "#index/filter";
import { compileFilter } from "#index/filter-walk";
import { GalleryRows } from "#index/gallery-rows";

const count = 20_000;

function manyRows(): GalleryRows {
  const rows = new GalleryRows();
  for (let sequence = 1; sequence <= count; sequence++)
    rows.add({
      entryId: `e${sequence}`,
      sequence,
      identity: sequence % 3 === 0 ? `p${sequence % 100}` : "",
      cameraId: `c${sequence % 4}`,
      capturedAtUs: sequence,
      trackId: "",
      attributes: {},
      expiresAtUs: sequence % 1000 === 0 ? 1 : undefined,
      enrolledAtUs: 0,
      hasCrop: false,
    });
  return rows;
}

/** Counts the turns that other work gets until a promise settles. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isOver = false;
  const take = () => {
    turns += 1;
    if (!isOver) setImmediate(take);
  };
  setImmediate(take);
  await work;
  isOver = true;
  return turns;
}

describe("compileFilter", () => {
  const rows = manyRows();
  const cases: readonly [string, Filter, (sequence: number) => boolean][] = [
    [
      "a condition that looks at every row",
      { identified: "present" },
      (sequence) => sequence % 3 === 0,
    ],
    [
      "cameras, one of them twice",
      { cameraIn: ["c1", "c2", "c1", "c3"] },
      (sequence) => sequence % 4 !== 0,
    ],
    [
      "cameras and identities left out",
      { cameraNotIn: ["c1", "c2"], identityNotIn: ["p0", "p3"] },
      (sequence) =>
        ![1, 2].includes(sequence % 4) &&
        !(sequence % 3 === 0 && [0, 3].includes(sequence % 100)),
    ],
  ];
  for (const [what, filter, holds] of cases)
    test(`finds what passes ${what}, and lets other work have its turn`, async () => {
      const compiling = compileFilter(rows, [filter], 2);
      const turns = await turnsDuring(compiling);
      assert.ok(turns >= 2, `${turns} turns`);
      const { ids, survivors } = await compiling;
      assert.ok(ids !== undefined && "ids" in ids);
      const listed = new Set(ids.ids);
      assert.equal(listed.size, ids.ids.length);
      const wanted = Array.from({ length: count }, (_, i) => i + 1).filter(
        (sequence) => sequence % 1000 !== 0 && holds(sequence),
      );
      assert.equal(survivors, wanted.length);
      const passes = (sequence: number) =>
        listed.has(sequence) === (ids.mode === "only");
      assert.ok(wanted.every(passes));
      assert.equal(
        ids.mode === "only" ? listed.size : count - listed.size,
        wanted.length,
      );
    });

  test("lists nothing where every entry passes", async () => {
    const { ids, survivors } = await compileFilter(rows, [{}], 0);
    assert.equal(ids, undefined);
    assert.equal(survivors, count);
  });
});
