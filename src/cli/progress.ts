import type { Writable } from "node:stream";
import type { Clock } from "#core/clock";

/** Where and how progress is drawn. */
export interface ProgressOptions {
  readonly stream: Writable & {
    readonly isTTY?: boolean;
    readonly columns?: number;
  };
  readonly silent: boolean;
  readonly clock: Clock;
}

const barWidth = 24;
const terminalIntervalMs = 100;
const plainIntervalMs = 10_000;

/** One long piece of work: a bar that is redrawn on a terminal, a line every ten seconds elsewhere. */
export class Progress {
  readonly #label: string;
  #total: number;
  readonly #options: ProgressOptions;
  readonly #startedMs: number;
  #drawnMs: number;
  #done = 0;
  #note = "";

  constructor(label: string, total: number, options: ProgressOptions) {
    this.#label = label;
    this.#total = total;
    this.#options = options;
    this.#startedMs = options.clock.monotonic();
    this.#drawnMs = options.stream.isTTY ? -Infinity : this.#startedMs;
  }

  /**
   * Says how far the work is.
   *
   * @param done   units done so far, at most the total
   * @param note   what else to show, such as the loss
   * @param total  where it was not known before, or has changed
   */
  update(done: number, note = "", total = this.#total): void {
    this.#done = done;
    this.#total = total;
    this.#note = note;
    const now = this.#options.clock.monotonic();
    const interval = this.#options.stream.isTTY
      ? terminalIntervalMs
      : plainIntervalMs;
    if (this.#options.silent || now - this.#drawnMs < interval) return;
    this.#drawnMs = now;
    this.#draw(now);
  }

  /** Ends the bar; on a terminal its line is cleared. */
  end(): void {
    if (this.#options.stream.isTTY && !this.#options.silent)
      this.#options.stream.write("\r\u001b[K");
  }

  #draw(now: number): void {
    const { stream } = this.#options;
    const share = this.#total > 0 ? Math.min(1, this.#done / this.#total) : 0;
    const elapsedMs = now - this.#startedMs;
    const left =
      share > 0 ? secondsText((elapsedMs * (1 - share)) / share) : "?";
    // Before the total is known there is nothing to say of the rest.
    const counts =
      this.#total > 0
        ? `${this.#done}/${this.#total}  ${left} left`
        : String(this.#done);
    const text = `${counts}${this.#note ? `  ${this.#note}` : ""}`;
    if (!stream.isTTY) {
      stream.write(`${this.#label}  ${text}\n`);
      return;
    }
    const filled = Math.round(share * barWidth);
    const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
    const line = `${this.#label} ${bar} ${text}`;
    stream.write(`\r\u001b[K${line.slice(0, (stream.columns ?? 120) - 1)}`);
  }
}

/** A duration for people: `8 s`, `2 min 05 s`, `1 h 10 min`. */
export function secondsText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60)
    return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
