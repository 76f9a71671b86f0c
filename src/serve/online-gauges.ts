import type { Clock } from "#core/clock";
import type { Telemetry } from "#core/telemetry";
import type { MemoryFacts } from "./online-memory-types.js";

/**
 * Lets a memory's counts, drift and age be scraped.
 *
 * @returns  takes the readers away again
 */
export function observeMemory(
  telemetry: Telemetry,
  clock: Clock,
  facts: () => MemoryFacts,
): () => void {
  const attributes = { model: facts().name };
  const one = (read: (now: MemoryFacts) => number | undefined) => () => {
    const value = read(facts());
    return value === undefined ? [] : [{ value, attributes }];
  };
  const stops = [
    telemetry.observe(
      "reid.memory.rows",
      one(({ rowCount }) => rowCount),
    ),
    telemetry.observe(
      "reid.memory.clusters",
      one(({ clusterCount }) => clusterCount),
    ),
    telemetry.observe(
      "reid.memory.outliers",
      one(({ outlierCount }) => outlierCount),
    ),
    telemetry.observe(
      "reid.memory.drift",
      one(({ drift }) => drift),
    ),
    telemetry.observe(
      "reid.memory.clustering.age",
      one(({ clusteredAtMs: at }) =>
        at === undefined ? undefined : (clock.now() - at) / 1000,
      ),
    ),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}
