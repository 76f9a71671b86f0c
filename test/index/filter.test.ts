import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Filter } from "#index/filter";
import { compileFilter } from "#index/filter-walk";
import { GalleryRows, type Row } from "#index/gallery-rows";
import { idTest } from "#index/vector-index";

// Three chunks of rows.
const count = 132_000;

function rowOf(sequence: number): Row {
  return {
    entryId: `e${sequence}`,
    sequence,
    featureId: sequence,
    identity: sequence % 3 === 0 ? `p${sequence % 100}` : "",
    cameraId: `c${sequence % 4}`,
    capturedAtUs: sequence,
    trackId: "",
    attributes: {},
    expiresAtUs: sequence % 1000 === 0 ? 1 : undefined,
    enrolledAtUs: 0,
    hasCrop: false,
  };
}

function manyRows(): GalleryRows {
  const rows = new GalleryRows();
  for (let sequence = 1; sequence <= count; sequence++)
    rows.add(rowOf(sequence));
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
      assert.ok(turns >= 1, `${turns} turns`);
      const { ids, survivors } = await compiling;
      assert.ok(ids !== undefined);
      const isListed = idTest(ids);
      const wanted = Array.from({ length: count }, (_, i) => i + 1).filter(
        (sequence) => sequence % 1000 !== 0 && holds(sequence),
      );
      assert.equal(survivors, wanted.length);
      const found = Array.from({ length: count }, (_, i) => i + 1).filter(
        (sequence) => isListed(sequence) === (ids.mode === "only"),
      );
      assert.deepEqual(found, wanted);
    });

  test("lists nothing where every entry passes", async () => {
    const { ids, survivors } = await compileFilter(rows, [{}], 0);
    assert.equal(ids, undefined);
    assert.equal(survivors, count);
  });

  test("finds the same in chunks that were packed and joined as entries left", async () => {
    const thinned = manyRows();
    for (const row of [...thinned.all()])
      if (row.sequence % 10 !== 0) thinned.remove(row);
    assert.equal(thinned.chunks.length, 1);
    const { ids, survivors } = await compileFilter(
      thinned,
      [{ cameraIn: ["c2"] }],
      0,
    );
    const wanted = Array.from({ length: count / 20 }, (_, i) => 20 * i + 10);
    assert.equal(survivors, wanted.length);
    assert.ok(ids !== undefined);
    const isListed = idTest(ids);
    const found = Array.from({ length: count + 1 }, (_, id) => id);
    assert.deepEqual(found.filter(isListed), wanted);
    assert.equal(thinned.named("e70")?.sequence, 70);
    assert.equal(thinned.named("e71"), undefined);
  });

  test("gives a list where few of the ids are left, a bitmap where most are", async () => {
    for (const [apart, form] of [
      [1, "bitmap"],
      [64, "bitmap"],
      [65, "ids"],
      [1e9, "ids"],
    ] as const) {
      const rows = new GalleryRows();
      for (let i = 1; i <= 1000; i++) rows.add(rowOf(i * apart));
      const { ids, survivors } = await compileFilter(
        rows,
        [{ identified: "present" }],
        0,
      );
      assert.ok(ids !== undefined && form in ids, `${apart}`);
      const isListed = idTest(ids);
      const wanted = [...rows.all()].filter(({ identity }) => identity !== "");
      assert.equal(survivors, wanted.length);
      for (const { featureId, identity } of rows.all())
        assert.equal(isListed(featureId), identity !== "");
    }
  });
});
