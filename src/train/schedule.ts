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

/** Share of the run after which the late cosine begins. */
const LATE = 0.75;

/** What the first learning rate is multiplied by. */
const factors: Readonly<
  Record<LearningRateSchedule, (at: SchedulePosition) => number>
> = {
  constant: () => 1,
  step: ({ epoch }) => 0.1 ** Math.floor(epoch / STEP_EPOCHS),
  cosine: (at) => fallingBy(shareOver(at)),
  "late-cosine": (at) =>
    fallingBy(Math.max(0, (shareOver(at) - LATE) / (1 - LATE))),
};

/** Share of the run's iterations that is over, 0 at the first and 1 at the last. */
function shareOver({
  epoch,
  iteration,
  epochs,
  iterations,
}: SchedulePosition): number {
  const last = epochs * iterations - 1;
  return last > 0 ? (epoch * iterations + iteration) / last : 0;
}

/** Half a cosine from 1 to the final share. */
function fallingBy(share: number): number {
  return (
    FINAL_SHARE + ((1 - FINAL_SHARE) * (1 + Math.cos(Math.PI * share))) / 2
  );
}

/**
 * The learning rate of one iteration.
 *
 *     constant:     lr
 *     step:         lr · 0.1^⌊epoch / 20⌋
 *     cosine:       lr · (0.01 + 0.99 · (1 + cos(π t / T)) / 2), t of T iterations of the whole run
 *     late-cosine:  lr for three quarters of the run, then the cosine over the rest
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
