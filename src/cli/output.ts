import type { Writable } from "node:stream";
import { ReidError } from "#core/errors";
import type { Clock } from "#core/clock";
import { Progress } from "./progress.js";

/** Exit codes of every `reid` command. */
export const exitCodes = { success: 0, failure: 1, usage: 2 } as const;

/** How a command speaks: people read stdout, or stderr when stdout belongs to `--json`. */
export interface OutputOptions {
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & {
    readonly isTTY?: boolean;
    readonly columns?: number;
  };
  readonly json: boolean;
  readonly quiet: boolean;
  readonly clock: Clock;
}

/** The one place that writes to the terminal. */
export class Output {
  readonly json: boolean;
  readonly #options: OutputOptions;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.#options = options;
  }

  /** One line for people: stdout, or stderr under `--json`. Silent under `--quiet`. */
  line(text = ""): void {
    if (this.#options.quiet) return;
    this.#people.write(`${text}\n`);
  }

  /** One line on stderr, whatever the flags. */
  warn(text: string): void {
    this.#options.stderr.write(`${text}\n`);
  }

  /** Raw text on stdout, for commands whose result is text. */
  raw(text: string): void {
    this.#options.stdout.write(text);
  }

  /** Columns aligned; numbers to the right. The first row is the heading. */
  table(rows: readonly (readonly (string | number)[])[]): void {
    if (rows.length === 0) return;
    const widths = rows[0].map((_, column) =>
      Math.max(...rows.map((row) => String(row[column] ?? "").length)),
    );
    const isNumber = (value: string | number) =>
      typeof value === "number" || /^[-+]?[\d.,]+ ?%?$/.test(value);
    rows.forEach((row, i) => {
      const cells = row.map((cell, column) =>
        isNumber(cell) ||
        (i === 0 && rows.length > 1 && isNumber(rows[1][column]))
          ? String(cell).padStart(widths[column])
          : String(cell).padEnd(widths[column]),
      );
      this.line(cells.join("  ").trimEnd());
      if (i === 0) this.line(widths.map((w) => "─".repeat(w)).join("  "));
    });
  }

  /** A progress bar on a terminal, plain lines elsewhere. */
  progress(label: string, total: number): Progress {
    return new Progress(label, total, {
      stream: this.#options.stderr,
      silent: this.#options.quiet,
      clock: this.#options.clock,
    });
  }

  /** The result of the command, the last line on stdout under `--json`. */
  result(value: unknown): void {
    if (this.json) this.#options.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /**
   * Says what went wrong in one line and tells the exit code.
   * Under `--json` the failure is the result as well: `{ "error": { code, message, … } }`.
   *
   * @param result  what was found before; stands beside the failure
   */
  failure(error: unknown, result: object = {}): number {
    const isOurs = error instanceof ReidError;
    const message = isOurs
      ? error.message
      : `unexpected: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
    const code = isOurs ? error.code : "INTERNAL";
    this.#options.stderr.write(`reid: ${message}\n`);
    this.result({
      ...result,
      error: { code, message, ...(isOurs ? { facts: error.facts } : {}) },
    });
    return code === "USAGE" || code === "CONFIG_INVALID"
      ? exitCodes.usage
      : exitCodes.failure;
  }

  get #people(): Writable {
    return this.json ? this.#options.stderr : this.#options.stdout;
  }
}
