import { readBundle, resolveBundle, type Bundle } from "#core/manifest";
import { batchesOf, CropLoader, type CropSet } from "./crops.js";
import { dataFormats } from "./data-sets.js";
import type { CropRef, DataSet, SkippedFile } from "./data/data-set.js";
import { openDomain } from "./domain-crops.js";
import type { Device, EncoderSession, TrainingEngine } from "./engine.js";
import { evaluate, type Evaluation, type EvaluationSet } from "./evaluation.js";
import { RERANK_DEFAULTS } from "./reranking.js";
import type { DataFormat } from "./settings.js";

/** What a bundle is evaluated on, and how. */
export interface BundleEvaluationOptions {
  /** A run's folder, a bundle's folder, or MODELS/NAME. */
  readonly model: string;
  readonly data: string;
  readonly format: DataFormat;
  /** Re-rank by the k-reciprocal distance (spcl-spec 8). */
  readonly rerank?: boolean;
  readonly skipBad?: boolean;
  readonly device?: Device;
  /** Threads of the engine; 0: as many as there are cores. */
  readonly threads?: number;
  /** Threads that decode. */
  readonly workers?: number;
}

/** What an evaluation may use of the outside world. */
export interface BundleEvaluationContext {
  readonly engine: TrainingEngine;
  readonly signal?: AbortSignal | undefined;
  /** Called with the crops embedded so far, and all there are. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** mAP and CMC of a bundle on a data set. */
export interface BundleEvaluation extends Evaluation {
  /** The bundle's folder. */
  readonly bundle: string;
  readonly skipped: readonly SkippedFile[];
}

/** Crops with the features a bundle gives them. */
export interface EmbeddedCrops extends EvaluationSet {
  readonly crops: readonly CropRef[];
}

/** Features of every split of a data set that was asked for. */
export interface EmbeddedDataSet {
  readonly bundle: Bundle;
  readonly train: EmbeddedCrops;
  readonly query: EmbeddedCrops;
  readonly gallery: EmbeddedCrops;
  readonly skipped: readonly SkippedFile[];
}

/** Crops that go through the encoder together. */
const BATCH = 64;

/** Bytes of decoded crops kept between the check and the pass; the pass runs once, so little is worth keeping. */
const CACHE_BYTES = 512 * 1024 * 1024;

/**
 * mAP and CMC of a bundle on a labelled data set (spcl-spec 8).
 *
 * @throws {BundleNotFoundError} `model` is none
 * @throws {DataSetLayoutError}  the folder does not fit the format
 */
export async function evaluateBundle(
  options: BundleEvaluationOptions,
  context: BundleEvaluationContext,
): Promise<BundleEvaluation> {
  const { query, gallery, bundle, skipped } = await embedDataSet(
    options,
    ["query", "gallery"],
    context,
  );
  const result = await evaluate(query, gallery, {
    dimension: bundle.manifest.dimension,
    rerank: options.rerank === true ? RERANK_DEFAULTS : undefined,
  });
  return { ...result, bundle: bundle.folder, skipped };
}

/**
 * Features of a data set's crops, by a bundle.
 *
 * @param splits  which to embed; the others stay empty
 * @throws as {@link evaluateBundle}
 */
export async function embedDataSet(
  options: BundleEvaluationOptions,
  splits: readonly ("train" | "query" | "gallery")[],
  context: BundleEvaluationContext,
): Promise<EmbeddedDataSet> {
  const skipBad = options.skipBad ?? false;
  const bundle = await readBundle(await resolveBundle(options.model));
  const data = await dataFormats[options.format](options.data, {
    skipBad,
    splits,
  });
  const { heightPx, widthPx } = bundle.manifest;
  const loader = new CropLoader({
    heightPx,
    widthPx,
    workers: options.workers ?? 2,
    cacheBytes: CACHE_BYTES,
  });
  const session = await context.engine.load(bundle.encoder, {
    heightPx,
    widthPx,
    device: options.device ?? "auto",
    threads: options.threads ?? 0,
  });
  try {
    const skipped = [...data.skipped];
    const pass = new DataSetPass({
      loader,
      session,
      context,
      total: sizeOf(data),
    });
    return {
      bundle,
      train: await pass.embed(data.train, skipBad ? skipped : undefined),
      query: await pass.embed(data.query, skipBad ? skipped : undefined),
      gallery: await pass.embed(data.gallery, skipBad ? skipped : undefined),
      skipped,
    };
  } finally {
    await loader.close();
    await session.close();
  }
}

function sizeOf({ train, query, gallery }: DataSet): number {
  return train.length + query.length + gallery.length;
}

/** What a pass over a data set works with. */
interface PassParts {
  readonly loader: CropLoader;
  readonly session: EncoderSession;
  readonly context: BundleEvaluationContext;
  /** Crops of all splits together. */
  readonly total: number;
}

/** Embeds one split after another and counts. */
class DataSetPass {
  readonly #parts: PassParts;
  #done = 0;

  constructor(parts: PassParts) {
    this.#parts = parts;
  }

  /** Crops that cannot be decoded go to `skipped`, or stop the pass where it is undefined. */
  async embed(
    crops: readonly CropRef[],
    skipped: SkippedFile[] | undefined,
  ): Promise<EmbeddedCrops> {
    const { loader, session, context, total } = this.#parts;
    if (crops.length === 0) return withFeatures([], new Float32Array(0));
    const domain = await openDomain(loader, crops, skipped);
    const features = await embedPixels(loader, domain.set, session, (count) => {
      context.signal?.throwIfAborted();
      this.#done += count;
      context.onProgress?.(this.#done, total);
    });
    loader.drop(domain.set);
    return withFeatures(domain.crops, features);
  }
}

function withFeatures(
  crops: readonly CropRef[],
  features: Float32Array,
): EmbeddedCrops {
  return {
    crops,
    features,
    identities: Int32Array.from(crops, ({ identity }) => identity),
    cameras: Int32Array.from(crops, ({ cameraId }) => cameraId),
  };
}

/**
 * Features of a set's crops through a bundle's encoder, the next batch decoded while one is embedded.
 *
 * @param onBatch  called with the size of each batch once it is done
 * @returns        float32 [N, D], unit rows
 */
export async function embedPixels(
  loader: CropLoader,
  set: CropSet,
  session: EncoderSession,
  onBatch: (count: number) => void,
): Promise<Float32Array> {
  const features = new Float32Array(set.count * session.dimension);
  const lists = [...batchesOf(set.count, BATCH)];
  const ask = (at: number): Promise<Uint8Array> => {
    const pixels = loader.pixelBatch(set, lists[at]);
    // Its failure is met when the batch is asked for, which may be later than it happens.
    pixels.catch(() => undefined);
    return pixels;
  };
  let next = lists.length > 0 ? ask(0) : undefined;
  let row = 0;
  for (let at = 0; next !== undefined; at++) {
    const pixels: Uint8Array = await next;
    next = at + 1 < lists.length ? ask(at + 1) : undefined;
    const count = lists[at].length;
    features.set(await session.embed(pixels, count), row * session.dimension);
    row += count;
    loader.release(pixels);
    onBatch(count);
  }
  return features;
}
