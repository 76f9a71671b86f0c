import { trainedFrom } from "./index-kinds.js";
import type { VectorIndex } from "./vector-index.js";

/**
 * Trains an index that is not trained yet and has enough entries for it; until then it searches exactly.
 *
 * @returns whether it is trained now, or needs no training
 */
export async function trainIfReady(index: VectorIndex): Promise<boolean> {
  const least = trainedFrom(index.spec);
  if (least === 0) return true;
  const { count, isTrained } = await index.facts();
  if (!isTrained && count >= least) await index.train();
  return isTrained || count >= least;
}
