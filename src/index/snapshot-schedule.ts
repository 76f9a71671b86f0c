import type { Clock } from "#core/clock";
import type { Log } from "#core/log";

import type { Gallery } from "./gallery.js";

/** When a gallery's index is saved in the background. */
export interface SnapshotRules {
  /** After so many writes since the last; 0: never for their number. */
  readonly writes: number;
  /** So long after the last, where there were any; 0: never for their age. */
  readonly afterMs: number;
}

/** Snapshots in the background, one at a time, so that traffic shares the disk with one writer at most. */
export class SnapshotSchedule {
  readonly #rules: SnapshotRules;
  readonly #clock: Clock;
  readonly #log: Pick<Log, "warn">;
  /** For galleries that have none. */
  readonly #startedMs: number;
  #taking: Promise<void> | undefined;

  constructor(rules: SnapshotRules, clock: Clock, log: Pick<Log, "warn">) {
    this.#rules = rules;
    this.#clock = clock;
    this.#log = log;
    this.#startedMs = clock.now();
  }

  /** Whether enough has been written, or long enough ago. */
  isDue({ unsavedWrites, snapshotState }: Gallery): boolean {
    if (unsavedWrites <= 0) return false;
    const { writes, afterMs } = this.#rules;
    const since = snapshotState.takenAtMs ?? this.#startedMs;
    return (
      (writes > 0 && unsavedWrites >= writes) ||
      (afterMs > 0 && this.#clock.now() - since >= afterMs)
    );
  }

  /** Takes the snapshots that are due; while some are being taken, nothing. Never rejects. */
  async take(galleries: readonly Gallery[]): Promise<void> {
    if (this.#taking !== undefined) return;
    const due = galleries.filter((gallery) => this.isDue(gallery));
    if (due.length === 0) return;
    this.#taking = this.#takeAll(due).finally(() => {
      this.#taking = undefined;
    });
    await this.#taking;
  }

  async #takeAll(galleries: readonly Gallery[]): Promise<void> {
    for (const gallery of galleries) {
      try {
        await gallery.snapshot();
      } catch (error) {
        // Closed or deleted meanwhile, or the disk is full: the index is a cache, and the next turn tries again.
        if (gallery.describe().state !== "closed")
          this.#log.warn("no snapshot was taken, the next start takes longer", {
            gallery: gallery.name,
            error,
          });
      }
    }
  }
}
