// The gallery's index against its peers: `make bench-index`. PART=search,filters,… runs only some parts.
import { blockingRows } from "./index-blocking.js";
import { crossoverRows } from "./index-crossover.js";
import { filterRows } from "./index-filters.js";
import { recallRows } from "./index-recall.js";
import { searchRows } from "./index-search.js";
import { memoryRows, startRows } from "./index-start.js";
import {
  besideRows,
  bulkRows,
  singleRows,
  sustainedRows,
} from "./index-traffic.js";
import { type BenchRow, writeReport } from "./report.js";

const parts: Readonly<Record<string, () => Promise<BenchRow[]>>> = {
  search: searchRows,
  recall: recallRows,
  filters: filterRows,
  crossover: crossoverRows,
  singles: singleRows,
  bulk: bulkRows,
  sustained: sustainedRows,
  beside: besideRows,
  start: startRows,
  memory: memoryRows,
  blocking: blockingRows,
};

const only = process.env["PART"];
const wanted = only?.split(",") ?? Object.keys(parts);
const rows: BenchRow[] = [];
for (const name of wanted) {
  const part = parts[name];
  if (part === undefined)
    throw new Error(
      `there is no part ${name}: ${Object.keys(parts).join(", ")}`,
    );
  process.stderr.write(`bench-index: ${name}\n`);
  const found = await part();
  for (const { figure, value, unit } of found)
    process.stderr.write(`  ${figure}: ${value.toPrecision(4)} ${unit}\n`);
  rows.push(...found);
}
// Parts by themselves leave the report of the whole as it is.
await writeReport(
  only === undefined ? "index" : `index-${wanted.join("-")}`,
  rows,
);
