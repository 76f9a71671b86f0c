import type { LearningRateSchedule } from "./settings.js";

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
