import type { LearningRateSchedule, MemoryRefresh } from "./settings.js";

/** Where in a run an iteration stands, and how long the run is. */
export interface SchedulePosition {
  /** From 0. */
  readonly epoch: number;
  /** Within the epoch, from 0. */
  readonly iteration: number;
  readonly epochs: number;
  /** Iterations an epoch. */
  readonly iterations: number;
}

/** The published schedule falls to a tenth every 20 epochs (yxgeee/SpCL, --step-size 20). */
const STEP_EPOCHS = 20;

/** The cosine ends here, as a share of the first rate (spcl-spec 11, step 4). */
const FINAL_SHARE = 0.01;

/** What the first learning rate is multiplied by. */
const factors: Readonly<
  Record<LearningRateSchedule, (at: SchedulePosition) => number>
> = {
  step: ({ epoch }) => 0.1 ** Math.floor(epoch / STEP_EPOCHS),
  cosine: ({ epoch, iteration, epochs, iterations }) => {
    const last = epochs * iterations - 1;
    const share = last > 0 ? (epoch * iterations + iteration) / last : 0;
    return (
      FINAL_SHARE + ((1 - FINAL_SHARE) * (1 + Math.cos(Math.PI * share))) / 2
    );
  },
};

/**
 * The learning rate of one iteration.
 *
 *     step:    lr · 0.1^⌊epoch / 20⌋
 *     cosine:  lr · (0.01 + 0.99 · (1 + cos(π t / T)) / 2), t of T iterations of the whole run
 */
export function learningRateAt(
  schedule: LearningRateSchedule,
  first: number,
  position: SchedulePosition,
): number {
  return first * factors[schedule](position);
}

/** Share of the present encoder's features in a target row before a clustering, by the share of the run that is over. */
const freshShares: Readonly<Record<MemoryRefresh, (over: number) => number>> = {
  off: () => 0,
  on: () => 1,
  average: () => 0.5,
  fade: (over) => 1 - over,
};

/**
 * How much of the present encoder's features the target rows take up before a clustering, in [0, 1].
 *
 * @param epoch   since the adaptation began, from 0; its first memory is fresh anyway
 * @param epochs  of the adaptation
 */
export function freshShareAt(
  refresh: MemoryRefresh,
  epoch: number,
  epochs: number,
): number {
  return epoch === 0 ? 0 : freshShares[refresh](epoch / epochs);
}
