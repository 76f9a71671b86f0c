import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomically } from "#core/files";
import { HybridMemory } from "#memory/hybrid-memory";
import {
  bytesFromCheckpoint,
  checkpointFromBytes,
  saveCheckpoint,
  type BestEpoch,
  type Checkpoint,
} from "./checkpoint.js";
import type { Run } from "./run.js";

/** Folder of a run's checkpoints, within the run's. */
export const CHECKPOINTS = "checkpoints";

/**
 * Writes where the run stands after an epoch.
 *
 * @param folder      the run's
 * @param epochsDone  epochs done
 */
export async function keepRun(
  run: Run,
  folder: string,
  epochsDone: number,
  best: BestEpoch | undefined,
): Promise<void> {
  const { memory, settings } = run;
  const checkpoint: Checkpoint = {
    settings,
    epochsDone,
    training: run.session.state(),
    memory: {
      sourceClasses: memory.sourceClasses,
      dimension: memory.dimension,
      rows: memory.rows,
      labels: memory.labels,
    },
    clustering: run.clustering?.state,
    best,
  };
  if (best?.epoch === epochsDone)
    await writeAtomically(
      bestPath(folder),
      bytesFromCheckpoint({ ...checkpoint, memory: undefined }),
    );
  run.lastCheckpoint = await saveCheckpoint(
    join(folder, CHECKPOINTS),
    checkpoint,
  );
}

/** Puts a run back to where a checkpoint was taken. */
export function restoreRun(
  run: Run,
  path: string,
  { training, memory, clustering }: Checkpoint,
): void {
  run.session.restore(training);
  if (clustering !== undefined) run.clustering?.restore(clustering);
  if (memory !== undefined) {
    run.memory = new HybridMemory({
      rows: memory.rows,
      dimension: memory.dimension,
      sourceClasses: memory.sourceClasses,
      memoryMomentum: run.settings.memoryMomentum,
    });
    run.memory.setLabels(memory.labels);
  }
  run.lastCheckpoint = path;
}

/** Puts the weights of the epoch that did best on the validation set back. */
export async function restoreBest(run: Run, folder: string): Promise<void> {
  const path = bestPath(folder);
  const { training } = checkpointFromBytes(path, await readFile(path));
  run.session.restore(training);
}

function bestPath(folder: string): string {
  return join(folder, CHECKPOINTS, "best.checkpoint");
}
