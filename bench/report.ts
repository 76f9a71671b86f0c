import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** One measured figure of a bench. */
export interface BenchRow {
  /** What was measured, short. */
  readonly figure: string;
  readonly value: number;
  /** Unit of `value` and of `bar`. */
  readonly unit: string;
  /** What must hold: "≤ 25"; absent where the figure is only reported. */
  readonly bar?: `${"≤" | "≥" | "=" | "<" | ">"} ${number}` | undefined;
  /** What it is compared with: a peer, another setting, an earlier run. */
  readonly against?: string;
  /** Sizes, spread, machine: what makes the figure readable. */
  readonly note?: string;
}

/** Whether the smaller size of a bench was asked for. */
export const isQuick = (process.env["QUICK"] ?? "") !== "";

/** Seed of a bench's data; 1 where none was given. */
export const benchSeed = Number(process.env["SEED"] ?? "1");

/**
 * Leaves a bench's figures in out/bench/<name>.json, prints them, and fails the process where a bar does not hold.
 *
 * The file is an array of { figure, value, unit, bar, holds, against, note }.
 */
export async function writeReport(
  name: string,
  rows: readonly BenchRow[],
): Promise<void> {
  const judged = rows.map((row) => ({
    figure: row.figure,
    value: row.value,
    unit: row.unit,
    bar: row.bar ?? null,
    holds: row.bar === undefined ? null : isWithin(row.value, row.bar),
    against: row.against ?? null,
    note: row.note ?? null,
  }));
  const folder = join("out", "bench");
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, `${name}.json`),
    `${JSON.stringify(judged, null, 2)}\n`,
  );
  const cells = [
    ["figure", "value", "unit", "bar", "holds", "against", "note"],
    ...judged.map((row) => [
      row.figure,
      readable(row.value),
      row.unit,
      row.bar ?? "",
      row.holds === null ? "" : row.holds ? "yes" : "NO",
      row.against ?? "",
      row.note ?? "",
    ]),
  ];
  process.stdout.write(`${tableOf(cells)}\n`);
  if (judged.some(({ holds }) => holds === false)) process.exitCode = 1;
}

/** The middle value; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

function isWithin(value: number, bar: NonNullable<BenchRow["bar"]>): boolean {
  const [relation, limit] = bar.split(" ");
  switch (relation) {
    case "≤":
      return value <= Number(limit);
    case "≥":
      return value >= Number(limit);
    case "<":
      return value < Number(limit);
    case ">":
      return value > Number(limit);
    default:
      return value === Number(limit);
  }
}

function readable(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

function tableOf(cells: readonly (readonly string[])[]): string {
  const widths = cells[0].map((_, c) =>
    cells.reduce((most, row) => Math.max(most, row[c].length), 0),
  );
  return cells
    .map((row) =>
      row
        .map((cell, c) => cell.padEnd(widths[c]))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
