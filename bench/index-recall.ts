// Recall, speed and memory of every kind of index on features with structure, and on features without.
import { cropFeatures, cropsMissing } from "./index-crops.js";
import {
  clusteredFeatures,
  gaussianFeatures,
  type BenchFeatures,
} from "./index-data.js";
import type { KindTrial, KindTrialInput } from "./index-recall-trial.js";
import { type BenchRow, isQuick } from "./report.js";
import { runTrial } from "./trial.js";

const ROWS = isQuick ? 5000 : 50_000;

/** Rows of the report on the kinds. */
export async function recallRows(): Promise<BenchRow[]> {
  const sets = [await clusteredFeatures(ROWS), await gaussianFeatures(ROWS)];
  if (cropsMissing === false) sets.unshift(await cropFeatures());
  else process.stderr.write(`no rendered crops: ${cropsMissing}\n`);
  const rows: BenchRow[] = [];
  for (const data of sets) rows.push(...(await rowsOf(data)));
  return rows;
}

async function rowsOf(data: BenchFeatures): Promise<BenchRow[]> {
  const { rows, queries, dimension, note } = data;
  const input: KindTrialInput = { rows, queries, dimension };
  const trials = await runTrial<KindTrial[]>("index-recall-trial.js", input);
  return trials.map(({ kind, recall, oneMs, sizeBytes, buildS }) => ({
    figure: `recall@10, ${kind}`,
    value: recall,
    unit: "share",
    note: `${note}; ${oneMs.toFixed(2)} ms a query, ${(sizeBytes / 1e6).toFixed(0)} MB, built in ${buildS.toFixed(1)} s; before hits are measured again in float32`,
  }));
}
