import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

import { FaissIndex } from "#index/faiss";
import type { IndexSpec } from "#index/index-kinds";
import type { Neighbours } from "#index/vector-index";

import { filledIndex, idsFrom } from "./index-kinds.js";

/** What one life of an index is made of. */
export interface LifeOptions {
  readonly spec: IndexSpec;
  /** float32 [N, D], N of 300 or more, unit. */
  readonly rows: Float32Array;
  readonly dimension: number;
  /** Files are made below it, and removed. */
  readonly folder: string;
}

/**
 * Every call of an index from its making to its end: create, add, train, update, search in every way, fail, remove,
 * compact, save, load, memory-map, close.
 *
 * @returns what its exact searches found: the same for the same rows, whatever happens beside it
 */
export async function liveOnce({
  spec,
  rows,
  dimension,
  folder,
}: LifeOptions): Promise<Neighbours[]> {
  const count = rows.length / dimension;
  const below = await mkdtemp(join(folder, "life-"));
  const index = await filledIndex(spec, rows, dimension);
  await index.train();
  const queries = rows.subarray(0, 8 * dimension);
  const aborting = new AbortController();
  const stopped = index.search(rows, { k: 9, signal: aborting.signal });
  aborting.abort();
  await stopped.catch(() => undefined);
  await index.update(idsFrom(count - 4, count + 4), queries);
  await index.remove(idsFrom(20, 60));
  await assert.rejects(index.add(idsFrom(1, 2), queries), { code: "SHAPE" });
  await assert.rejects(index.save(below), { code: "INDEX_FAILED" });
  await index.search(queries, { k: 5, effort: 40 });

  const bitmap = new Uint8Array(count >> 3).fill(0b0110_1101);
  const found = [
    await index.search(queries, { k: 7, mode: "exact" }),
    await index.search(queries, {
      k: 7,
      mode: "exact",
      filter: { mode: "only", bitmap, firstId: 3 },
    }),
    await index.search(queries.subarray(0, dimension), {
      k: 7,
      mode: "exact",
      filter: { mode: "except", ids: idsFrom(0, 19) },
    }),
  ];
  await index.features(await index.ids());
  const path = join(below, "index");
  await index.save(path);
  await index.compact();
  await index.close();

  const mappable = spec.kind === "ivf" ? [false, true] : [false];
  for (const mmap of mappable) {
    const again = await FaissIndex.load(path, { mmap });
    found.push(await again.search(queries, { k: 7, mode: "exact" }));
    await again.facts();
    await again.close();
  }
  await rm(below, { recursive: true });
  return found;
}
