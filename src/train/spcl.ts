import { randomStream } from "#core/random";
import type { HybridMemory } from "#memory/hybrid-memory";
import { averageInto } from "#memory/refresh";
import { BatchQueue, type Batch, type Batches } from "./batch-queue.js";
import type { DomainCrops } from "./domain-crops.js";
import type {
  Domain,
  DomainBatch,
  IterationInput,
  IterationOutput,
} from "./engine.js";
import { LossNotFiniteError } from "./errors.js";
import type { ClusteringRecord, EpochRecord } from "./metrics-log.js";
import { embedCrops, startMemory, takeStatistics } from "./run-memory.js";
import type { Run } from "./run.js";
import { GroupSampler } from "./sampler.js";
import { freshShareAt, learningRateAt } from "./schedule.js";

/** What an epoch trains: the source alone, or the target with it. */
export type Phase = EpochRecord["phase"];

/**
 * One epoch of self-paced contrastive learning: cluster the target's memory rows, keep what is reliable, then
 * pull every crop to the prototype of its class and push it from all others, while the memory follows.
 *
 * Source: Ge et al. 2020, arXiv:2006.02713; order of the updates as in spcl-spec 9.
 *
 * @param epoch  from 0
 * @returns      the epoch's line of metrics.jsonl, less what a validation adds
 * @throws {LossNotFiniteError} the loss is NaN or infinite
 */
export async function runEpoch(run: Run, epoch: number): Promise<EpochRecord> {
  const { settings, context } = run;
  const started = context.clock.monotonic();
  const phase = phaseOf(run, epoch);
  if (epoch === 0 || epoch === settings.warmupEpochs)
    await beginPhase(run, phase);
  const clustering =
    phase === "adaptation" ? await labelTarget(run, epoch) : undefined;
  const losses = await iterate(run, epoch, phase);
  return {
    kind: "epoch",
    epoch: epoch + 1,
    phase,
    iterations: losses.count,
    meanLoss: losses.count === 0 ? null : losses.sum / losses.count,
    ...(clustering === undefined ? {} : { clustering }),
    seconds: (context.clock.monotonic() - started) / 1000,
  };
}

function phaseOf({ settings }: Run, epoch: number): Phase {
  return epoch < settings.warmupEpochs ? "warmup" : "adaptation";
}

/** The domains whose crops are in the batches of a phase. */
function domainsOf(
  run: Run,
  phase: Phase,
): Readonly<Record<Domain, DomainCrops | undefined>> {
  const hasSource = phase === "warmup" || run.settings.sourceUse === "joint";
  return {
    source: hasSource ? run.source : undefined,
    target: phase === "adaptation" ? run.target : undefined,
  };
}

/** Brings running statistics and memory to where a phase starts (spcl-spec 4 and 11). */
async function beginPhase(run: Run, phase: Phase): Promise<void> {
  const { settings, session } = run;
  const { source, target } = domainsOf(run, phase);
  run.report({ stage: "memory" });
  if (phase === "adaptation" && settings.warmupEpochs > 0) {
    if (settings.domainSpecificBatchNorm) {
      session.copySourceToTarget();
      if (target !== undefined) await takeStatistics(run, target, "target");
    }
  } else if (!settings.pretrained) {
    // Running statistics of random weights say nothing of the crops; the first memory would be noise.
    const first = source ?? target;
    if (first !== undefined)
      await takeStatistics(
        run,
        first,
        source === undefined ? "target" : "source",
      );
    if (source !== undefined && target !== undefined)
      await takeStatistics(run, target, "target");
  }
  run.memory = await startMemory(run, { source, target }, settings);
}

/** Clusters the target's rows and gives every row its label. */
async function labelTarget(
  run: Run,
  epoch: number,
): Promise<ClusteringRecord | undefined> {
  const { memory, settings, target, clustering } = run;
  if (target === undefined || clustering === undefined) return undefined;
  const since = epoch - settings.warmupEpochs;
  const share = freshShareAt(
    settings.refreshMemory,
    since,
    settings.epochs - settings.warmupEpochs,
  );
  if (share > 0) {
    run.report({ stage: "memory" });
    const fresh = await embedCrops(run, target, "target");
    averageInto(memory.targetRows(), fresh, share, memory.dimension);
  }
  run.report({ stage: "clustering" });
  const { labels, record } = await clustering.cluster(
    memory.targetRows(),
    since,
  );
  memory.setTargetLabels(labels);
  run.report({
    stage: "clustering",
    clusters: record.clusters,
    outliers: record.outliers,
  });
  return record;
}

/** The iterations of an epoch. */
async function iterate(
  run: Run,
  epoch: number,
  phase: Phase,
): Promise<{ readonly sum: number; readonly count: number }> {
  const { session, memory, settings, context } = run;
  const source = queueOf(run, "source", epoch, phase);
  const target = queueOf(run, "target", epoch, phase);
  const losses = { sum: 0, count: 0 };
  if (source === undefined && target === undefined) return losses;
  try {
    for (let iteration = 0; iteration < settings.iterations; iteration++) {
      context.signal?.throwIfAborted();
      const batches = {
        source: await source?.next(),
        target: await target?.next(),
      };
      const learningRate = learningRateAt(
        settings.learningRateSchedule,
        settings.learningRate,
        { ...settings, epoch, iteration, iterations: settings.iterations },
      );
      const output = await session.iterate(
        inputOf(memory, batches, learningRate),
      );
      if (!Number.isFinite(output.loss))
        throw new LossNotFiniteError(
          output.loss,
          { epoch: epoch + 1, iteration: iteration + 1 },
          run.lastCheckpoint,
        );
      updateMemory(run, batches, output);
      losses.sum += output.loss;
      losses.count++;
      run.logIteration({ epoch, iteration, learningRate, output, batches });
      for (const batch of [batches.source, batches.target])
        if (batch !== undefined) run.loader.release(batch.images);
    }
  } finally {
    await Promise.all([source?.drain(), target?.drain()]);
  }
  return losses;
}

/** The batches of one domain in an epoch, or undefined where it has nothing to draw from. */
function queueOf(
  run: Run,
  name: Domain,
  epoch: number,
  phase: Phase,
): BatchQueue | undefined {
  const domain = domainsOf(run, phase)[name];
  if (domain === undefined) return undefined;
  const { memory, settings, loader } = run;
  const { seed, batchSize, iterations, padPx } = settings;
  const labels =
    name === "source"
      ? domain.classes
      : memory.labels.subarray(memory.sourceClasses);
  const sampler = new GroupSampler(
    { labels, cameras: domain.cameras },
    batchSize,
    randomStream(seed, `sampler ${name}`, epoch),
  );
  if (sampler.isEmpty) return undefined;
  const view = { seed, name, epoch, padPx };
  const rowOf = name === "source" ? domain.classes : undefined;
  return new BatchQueue({ loader, domain, sampler, rowOf, view, iterations });
}

function inputOf(
  memory: HybridMemory,
  { source, target }: Batches,
  learningRate: number,
): IterationInput {
  return {
    ...(source === undefined ? {} : { source: shareOf(memory, source, 0) }),
    ...(target === undefined
      ? {}
      : { target: shareOf(memory, target, memory.sourceClasses) }),
    prototypes: memory.prototypes,
    prototypeCount: memory.prototypeCount,
    learningRate,
  };
}

function shareOf(
  memory: HybridMemory,
  batch: Batch,
  firstRow: number,
): DomainBatch {
  const rows = batch.rows;
  return {
    images: batch.images,
    count: rows.length,
    prototypeOf: rows.map((row) => memory.prototypeOf[firstRow + row]),
  };
}

/** Target rows, then source rows, with the features of this iteration's forward pass (spcl-spec 4 and 9). */
function updateMemory(
  { memory, settings }: Run,
  { source, target }: Batches,
  { sourceFeatures, targetFeatures }: IterationOutput,
): void {
  if (target !== undefined && targetFeatures !== undefined)
    memory.update(
      target.rows.map((row) => memory.sourceClasses + row),
      targetFeatures,
    );
  if (source === undefined || sourceFeatures === undefined) return;
  if (settings.sourceUpdate === "sequential")
    memory.update(source.rows, sourceFeatures);
  else memory.updateSourceMean(source.rows, sourceFeatures);
}
