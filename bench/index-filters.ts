import { clusteredFeatures } from "./index-data.js";
import type { FiltersInput, FilterTrial } from "./index-filters-trial.js";
import { type BenchRow, isQuick } from "./report.js";
import { runTrial } from "./trial.js";

const ROWS = isQuick ? 20_000 : 100_000;
const SHARES = [0.5, 0.1, 0.01, 0.001];

/** Recall and time of an HNSW gallery under filters. */
export async function filterRows(): Promise<BenchRow[]> {
  const { rows, queries, dimension, note } = await clusteredFeatures(ROWS);
  const input: FiltersInput = { rows, queries, dimension, shares: SHARES };
  const trials = await runTrial<FilterTrial[]>("index-filters-trial.js", input);
  return trials.flatMap(({ share, recall, indexMs, exactMs, exactShare }) => {
    const kept = `filter that keeps ${100 * share} %`;
    const how = `${note}, HNSW, k = 10; ${(100 * exactShare).toFixed(0)} % of searches made exact by the planner`;
    return [
      {
        figure: `recall@10, ${kept}`,
        value: recall,
        unit: "share",
        bar: "≥ 0.98" as const,
        note: how,
      },
      {
        figure: `search, ${kept}`,
        value: indexMs,
        unit: "ms",
        note: how,
      },
      {
        figure: `search, ${kept}, ratio`,
        value: indexMs / exactMs,
        unit: "×",
        // The same scan twice is 1 within the clock's noise.
        ...(isQuick ? {} : { bar: "≤ 1.1" as const }),
        against: "mode EXACT under the same filter",
        note: `${exactMs.toFixed(2)} ms`,
      },
    ];
  });
}
