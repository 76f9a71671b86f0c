import { setImmediate } from "node:timers/promises";
import { exactIndex } from "#index/binding";

/**
 * Finds each row's nearest rows for the clustering.
 *
 * @param features   float32 [N, D], unit rows; only read, not changed until the promise settles
 * @param dimension  D
 * @param k          width of the lists
 * @returns          int32 [N, k] by falling inner product, itself first, −1 where there are fewer rows
 */
export type FindNeighbours = (
  features: Float32Array,
  dimension: number,
  k: number,
) => Promise<Int32Array>;

/** Bytes handed to the addon at once: it copies them on the calling thread. */
const BLOCK_BYTES = 512 * 1024;

/** Exact neighbours by a FAISS flat index that lives for this call; its work is done on the addon's threads, where that is. */
export const faissNeighbours: FindNeighbours = async (
  features,
  dimension,
  k,
) => {
  const count = features.length / dimension;
  const neighbours = new Int32Array(count * k).fill(-1);
  const block = Math.max(1, Math.floor(BLOCK_BYTES / (4 * dimension)));
  const index = exactIndex(dimension);
  try {
    for (let start = 0; start < count; start += block) {
      const end = Math.min(count, start + block);
      const ids = Float64Array.from(
        { length: end - start },
        (_, i) => start + i,
      );
      // A copy: the addon takes no view on shared memory.
      const rows = features.slice(start * dimension, end * dimension);
      await index.add(ids, new Float32Array(rows));
    }
    for (let start = 0; start < count; start += block) {
      const end = Math.min(count, start + block);
      const queries = new Float32Array(
        features.slice(start * dimension, end * dimension),
      );
      const { ids } = await index.search(queries, { k });
      for (let i = 0; i < ids.length; i++) neighbours[start * k + i] = ids[i];
      putSelfFirst(neighbours, { start, end, k });
      await setImmediate();
    }
  } finally {
    await index.close();
  }
  return neighbours;
};

/** Rows equal to one another tie, and a lower one may come before the row itself. */
function putSelfFirst(
  neighbours: Int32Array,
  {
    start,
    end,
    k,
  }: { readonly start: number; readonly end: number; readonly k: number },
): void {
  for (let row = start; row < end; row++) {
    const list = neighbours.subarray(row * k, (row + 1) * k);
    const at = list.indexOf(row);
    list.copyWithin(1, 0, at < 0 ? k - 1 : at);
    list[0] = row;
  }
}
