import type { Life } from "../test/support/torture-run.js";
import type { BenchRow } from "./report.js";

/** What has been counted over many lives. */
export class Tally {
  lives = 0;
  killed = 0;
  acknowledged = 0;
  open = 0;
  refused = 0;
  lost = 0;
  doubled = 0;
  wrong = 0;
  /** Failures that were no error of ours. */
  nameless = 0;
  /** Processes that hung, or that another signal than SIGKILL ended. */
  ended = 0;

  /** Whether anything was lost, doubled or wrong. */
  get isBad(): boolean {
    return this.lost + this.doubled + this.wrong > 0;
  }

  /** Counts a life, and tells stderr what it should not have had. @param about  which one it was */
  add(life: Life, about: string): void {
    const { lost, doubled, wrong } = life.verdict;
    this.lives++;
    this.acknowledged += life.acknowledged;
    this.open += life.open;
    this.refused += life.refusals.length;
    this.lost += lost.length;
    this.doubled += doubled.length;
    this.wrong += wrong.length;
    if (life.isHung) this.ended++;
    else if (life.signal === "SIGKILL") this.killed++;
    else if (life.signal !== null) this.ended++;
    const nameless = life.refusals.filter(({ code }) => code === "NONE");
    this.nameless += nameless.length;
    const told = [...lost, ...doubled, ...wrong].slice(0, 3);
    for (const line of told) process.stderr.write(`${about}: ${line}\n`);
    for (const { what, message } of nameless)
      process.stderr.write(`${about}: ${what}: ${message.split("\n")[0]}\n`);
  }

  /** The figures that every part has, and more of its own. */
  rows(
    figure: string,
    note: string,
    more: readonly BenchRow[] = [],
  ): BenchRow[] {
    const none = { bar: "= 0" as const };
    return [
      {
        figure: `${figure}: lives`,
        value: this.lives,
        unit: "processes",
        note: `${this.killed} ended by SIGKILL; ${this.open} operations unanswered, ${this.refused} refused; ${note}`,
      },
      {
        figure: `${figure}: acknowledged`,
        value: this.acknowledged,
        unit: "operations",
        note: "each looked for afterwards",
      },
      { figure: `${figure}: lost`, value: this.lost, unit: "entries", ...none },
      {
        figure: `${figure}: doubled`,
        value: this.doubled,
        unit: "entries",
        ...none,
      },
      {
        figure: `${figure}: half, or not as \`check\` and brute force have it`,
        value: this.wrong,
        unit: "findings",
        ...none,
      },
      ...more,
    ];
  }
}

/** No failure of the disk ends a process. */
export function endedRow(figure: string, { ended }: Tally): BenchRow {
  return {
    figure: `${figure}: ended by a signal, or hung`,
    value: ended,
    unit: "processes",
    bar: "= 0",
  };
}

/** Whoever meets a failure is told by a code what it is. */
export function namelessRow(figure: string, { nameless }: Tally): BenchRow {
  return {
    figure: `${figure}: failures without a code of their own`,
    value: nameless,
    unit: "operations",
    bar: "= 0",
  };
}
