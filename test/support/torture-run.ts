import { spawn } from "node:child_process";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as after } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import type { RandomStream } from "#core/random";

import { judge, type Verdict } from "./torture-judge.js";
import { TortureModel, type Answer } from "./torture-model.js";
import { keeper, type Operation, type Placed } from "./torture-plan.js";

const child = fileURLToPath(new URL("./torture-child.js", import.meta.url));

/** A child that takes longer than this hangs. */
const longestMs = 60_000;

/** A failure that a child has named. */
export interface Refusal {
  /** What was refused: an operation's kind, or what the child was about. */
  readonly what: string;
  /** NONE: it was no error of ours. */
  readonly code: string;
  readonly message: string;
}

/** A moment of a child's work, whatever the machine's speed. */
export interface KillMoment {
  /** Lines that it has said since it was ready: operations begun, and answered. */
  readonly afterLines: number;
  /** And so long after that. */
  readonly afterMs: number;
}

/** A moment drawn at random, in the first dozen or so of operations. */
export function randomMoment(random: RandomStream): KillMoment {
  return { afterLines: random.below(40), afterMs: random.between(0, 40) };
}

/** How a child lives and ends. */
export interface LifeOptions {
  readonly seed: number;
  readonly mode: "random" | "script";
  /** Steps it does if nothing ends it. */
  readonly steps: number;
  /** Beside the present one. */
  readonly env?: Readonly<Record<string, string>>;
  /** When it is killed; undefined: nobody kills it from outside. */
  readonly kill?: KillMoment;
  /** Whether a copy of the folder is judged, so that the next child meets what the kill left. Default no. */
  readonly onCopy?: boolean;
}

/** What came of one child. */
export interface Life {
  readonly verdict: Verdict;
  /** SIGKILL, or another signal; null where it ended by itself. */
  readonly signal: NodeJS.Signals | null;
  readonly exitCode: number | null;
  /** It went on for so long that it was killed for it. */
  readonly isHung: boolean;
  /** Whether it said that all its steps are done. */
  readonly isDone: boolean;
  readonly acknowledged: number;
  readonly open: number;
  readonly refusals: readonly Refusal[];
  /** What it wrote to stderr. */
  readonly errors: string;
}

interface Line {
  readonly say: string;
  readonly turn: number;
  readonly step: number;
  readonly lane: number;
  readonly operation: Operation;
  readonly answer: Answer;
  readonly applied: boolean;
  readonly code: string;
  readonly message: string;
}

interface Ended {
  readonly lines: readonly Line[];
  readonly signal: NodeJS.Signals | null;
  readonly exitCode: number | null;
  readonly errors: string;
  readonly isHung: boolean;
}

/** One folder under torture, and the model of what was acknowledged in it, over as many lives as one likes. */
export class Torture {
  readonly folder: string;
  readonly model = new TortureModel();
  #nextStep = 0;
  #lastStep = 0;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Runs an action over a folder of its own, which is removed afterwards. */
  static async over<Result>(
    action: (torture: Torture) => Promise<Result>,
    parent = tmpdir(),
  ): Promise<Result> {
    const folder = await mkdtemp(join(parent, "reid-torture-"));
    try {
      return await action(new Torture(folder));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Starts a child, waits for its end, and judges what it left. */
  async live(options: LifeOptions): Promise<Life> {
    const { lines, ...ended } = await this.#run(options);
    const { open, acknowledged, refusals, lastWrites, wrong } =
      this.#follow(lines);
    const verdict = await this.#judge(options, open, lastWrites);
    verdict.wrong.unshift(...wrong);
    return {
      ...ended,
      verdict,
      acknowledged,
      refusals,
      open: open.length,
      isDone: lines.some(({ say }) => say === "done"),
    };
  }

  async #run(options: LifeOptions): Promise<Ended> {
    const { seed, mode, steps, env = {}, kill } = options;
    const running = spawn(
      process.execPath,
      [child, this.folder, `${seed}`, `${this.#nextStep}`, `${steps}`, mode],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env },
      },
    );
    let isHung = false;
    let hasCome = (): void => undefined;
    const moment = new Promise<void>((resolve) => (hasCome = resolve));
    let text = "";
    let errors = "";
    running.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (kill !== undefined && text.split("\n").length > 1 + kill.afterLines)
        hasCome();
    });
    running.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      errors += chunk;
    });
    const closed = new Promise<Pick<Ended, "signal" | "exitCode">>(
      (resolve) => {
        running.on("close", (exitCode, signal) => {
          resolve({ exitCode, signal });
        });
      },
    );
    if (kill !== undefined)
      void moment
        .then(() => after(kill.afterMs))
        .then(() => running.kill("SIGKILL"));
    const late = setTimeout(() => {
      isHung = true;
      running.kill("SIGKILL");
    }, longestMs);
    const { signal, exitCode } = await closed;
    clearTimeout(late);
    const lines = text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line);
    return { lines, signal, exitCode, errors, isHung };
  }

  /** Takes what a child said into the model, turn by turn. */
  #follow(lines: readonly Line[]) {
    const turns = new Map<number, Line[]>();
    for (const line of lines) {
      const isOfTurn = ["intent", "ack", "refused"].includes(line.say);
      if (isOfTurn)
        turns.set(line.turn, [...(turns.get(line.turn) ?? []), line]);
    }
    let open: Placed[] = [];
    let lastWrites = new Map<number, Operation>();
    let acknowledged = 0;
    const wrong: string[] = [];
    const refusals: Refusal[] = lines
      .filter(({ say }) => say.startsWith("not "))
      .map(({ say, code, message }) => ({ what: say, code, message }));
    for (const said of turns.values()) {
      if (open.length > 0) wrong.push("a turn began before the last had ended");
      const placed = said.filter(({ say }) => say === "intent");
      const { step } = placed[0];
      this.#lastStep = step;
      this.#nextStep = step + 1;
      const writes = new Map(
        placed
          .filter(({ lane }) => lane !== keeper)
          .map(({ lane, operation }) => [lane, operation]),
      );
      for (const { operation } of placed)
        if (operation.kind === "backup")
          this.model.noteBackup(operation.backupId, step, writes);
      open = [];
      lastWrites = new Map();
      for (const { lane, operation } of placed) {
        const end = said.find(
          (line) => line.lane === lane && line.say !== "intent",
        );
        if (end === undefined) open.push({ lane, operation });
        else if (end.say === "ack") {
          acknowledged++;
          wrong.push(
            ...this.model.apply({ lane, operation }, step, end.answer),
          );
          if (lane !== keeper) lastWrites.set(lane, operation);
        } else {
          const { code, message, applied } = end;
          refusals.push({ what: operation.kind, code, message });
          if (applied) this.model.apply({ lane, operation }, step);
        }
      }
    }
    return { open, lastWrites, acknowledged, refusals, wrong };
  }

  async #judge(
    { onCopy = false, seed }: LifeOptions,
    open: readonly Placed[],
    acknowledged: ReadonlyMap<number, Operation>,
  ): Promise<Verdict> {
    const { model } = this;
    const judged = { model, open, acknowledged, step: this.#lastStep, seed };
    if (!onCopy) return judge({ ...judged, folder: this.folder });
    const copy = `${this.folder}-copy`;
    try {
      await cp(this.folder, copy, { recursive: true });
      return await judge({ ...judged, folder: copy });
    } finally {
      await rm(copy, { recursive: true, force: true });
    }
  }
}
