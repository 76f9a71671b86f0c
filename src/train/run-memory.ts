import { HybridMemory, sourceCentroids } from "#memory/hybrid-memory";
import { batchesOf, type CropLoader } from "./crops.js";
import type { DomainCrops } from "./domain-crops.js";
import type { Domain, TrainingSession } from "./engine.js";
import type { TrainSettings } from "./settings.js";

/** Crops of one evaluation-mode pass. */
const EVALUATION_BATCH = 64;

/** What a pass over all crops of a domain needs. */
export interface DomainPass {
  readonly session: TrainingSession;
  readonly loader: CropLoader;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Evaluation-mode features of all crops of a domain.
 *
 * @param domain  whose batch norms are used
 * @returns       float32 [N, D], unit rows, owned by the caller
 */
export async function embedCrops(
  pass: DomainPass,
  crops: DomainCrops,
  domain: Domain,
): Promise<Float32Array> {
  const { session, loader } = pass;
  const features = new Float32Array(crops.set.count * session.dimension);
  let at = 0;
  for await (const { images, count } of evaluationBatches(
    pass,
    crops,
    EVALUATION_BATCH,
  )) {
    features.set(await session.embed(images, count, domain), at);
    at += count * session.dimension;
    loader.release(images);
  }
  return features;
}

/** Takes a domain's running statistics anew over all its crops, as the cumulative average over batches. */
export async function takeStatistics(
  pass: DomainPass,
  crops: DomainCrops,
  domain: Domain,
): Promise<void> {
  await pass.session.recomputeStatistics(
    domain,
    evaluationBatches(pass, crops, EVALUATION_BATCH),
  );
}

/** All crops of a domain as evaluation sees them, one batch ahead of its use. */
async function* evaluationBatches(
  { loader, signal }: DomainPass,
  crops: DomainCrops,
  batchSize: number,
): AsyncGenerator<{ readonly images: Float32Array; readonly count: number }> {
  const lists = [...batchesOf(crops.set.count, batchSize)];
  // A batch norm over a last batch of one crop has no variance: it joins the one before.
  const last = lists.at(-1);
  const before = lists.at(-2);
  if (last?.length === 1 && before !== undefined)
    lists.splice(-2, 2, Int32Array.of(...before, ...last));
  let next = lists.length > 0 ? ask(loader, crops, lists[0]) : undefined;
  for (let at = 0; next !== undefined; at++) {
    const images: Float32Array = await next;
    signal?.throwIfAborted();
    next =
      at + 1 < lists.length ? ask(loader, crops, lists[at + 1]) : undefined;
    yield { images, count: lists[at].length };
  }
}

function ask(
  loader: CropLoader,
  crops: DomainCrops,
  list: Int32Array,
): Promise<Float32Array> {
  const images = loader.evaluationBatch(crops.set, list);
  // Its failure is met when the batch is asked for, which may be later than it happens.
  images.catch(() => undefined);
  return images;
}

/**
 * A memory from the present encoder: class means of the source, features of the target (spcl-spec 4).
 *
 * @param source  absent where the source has no rows (USL, or after pre-training)
 * @param target  absent while only the source is trained
 */
export async function startMemory(
  pass: DomainPass,
  domains: {
    readonly source: DomainCrops | undefined;
    readonly target: DomainCrops | undefined;
  },
  settings: TrainSettings,
): Promise<HybridMemory> {
  const { dimension } = pass.session;
  const { source, target } = domains;
  const sourceRows =
    source === undefined
      ? new Float32Array(0)
      : sourceCentroids(
          await embedCrops(pass, source, "source"),
          source.classes,
          source.classCount,
          dimension,
        );
  const targetRows =
    target === undefined
      ? new Float32Array(0)
      : await embedCrops(pass, target, "target");
  const rows = new Float32Array(sourceRows.length + targetRows.length);
  rows.set(sourceRows);
  rows.set(targetRows, sourceRows.length);
  return new HybridMemory({
    rows,
    dimension,
    sourceClasses: source?.classCount ?? 0,
    memoryMomentum: settings.memoryMomentum,
  });
}
