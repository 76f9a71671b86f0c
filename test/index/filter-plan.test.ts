import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { isScanBetter, type FilteredSearch } from "#index/filter-plan";
import { flatSpec, hnswDefaults, ivfDefaults } from "#index/index-kinds";

const million: FilteredSearch = {
  spec: hnswDefaults,
  entries: 1_000_000,
  survivors: 500_000,
  k: 18,
  effort: undefined,
  exactBelow: 20_000,
};

describe("a filtered search", () => {
  test("walks the graph where most of a large gallery is left", () => {
    assert.equal(isScanBetter(million), false);
  });

  test("scans where the walk would pass more than it keeps", () => {
    assert.equal(isScanBetter({ ...million, survivors: 100_000 }), true);
    assert.equal(
      isScanBetter({ ...million, entries: 100_000, survivors: 50_000 }),
      true,
    );
  });

  test("scans from the effort on that makes the walk cost more", () => {
    assert.equal(isScanBetter({ ...million, effort: 2000 }), true);
    assert.equal(isScanBetter({ ...million, k: 2000 }), true);
  });

  test("scans below the setting, whatever the index", () => {
    for (const spec of [flatSpec, hnswDefaults, ivfDefaults])
      assert.equal(isScanBetter({ ...million, spec, survivors: 19_999 }), true);
  });

  test("is left to the index above the setting where the index passes nothing", () => {
    for (const spec of [flatSpec, ivfDefaults])
      assert.equal(
        isScanBetter({ ...million, spec, survivors: 20_000 }),
        false,
      );
  });

  test("is left to the index where the setting is 0", () => {
    assert.equal(
      isScanBetter({ ...million, survivors: 1, exactBelow: 0 }),
      false,
    );
  });
});
