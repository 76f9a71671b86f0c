import type { CropLoader } from "./crops.js";
import type { ViewKey } from "./crops-messages.js";
import type { DomainCrops } from "./domain-crops.js";
import type { GroupSampler } from "./sampler.js";

/** One domain's crops of an iteration. */
export interface Batch {
  /** int32 [B], positions in the domain's crops. */
  readonly crops: Int32Array;
  /** int32 [B]: each crop's memory row, counted within its domain: its class (source) or itself (target). */
  readonly rows: Int32Array;
  /** float32 [B, 3, H, W], augmented and normalized; give it back to the loader. */
  readonly images: Float32Array;
}

/** One iteration's crops. */
export interface Batches {
  readonly source: Batch | undefined;
  readonly target: Batch | undefined;
}

/** Where one domain's batches come from during an epoch. */
export interface BatchSource {
  readonly loader: CropLoader;
  readonly domain: DomainCrops;
  readonly sampler: GroupSampler;
  /** int32 [N]: the memory row of each crop, counted within its domain; absent: its own number. */
  readonly rowOf?: Int32Array | undefined;
  /** Which random numbers, all but the iteration. */
  readonly view: Omit<ViewKey, "iteration">;
  /** Iterations of the epoch. */
  readonly iterations: number;
}

/** Batches made ahead: one in use by the engine, one in the making. */
const AHEAD = 2;

/** One domain's batches of an epoch, in order, made while the engine works on the ones before. */
export class BatchQueue {
  readonly #source: BatchSource;
  readonly #ahead: Promise<Batch>[] = [];
  #asked = 0;

  constructor(source: BatchSource) {
    this.#source = source;
    this.#fill();
  }

  /** The next iteration's batch. */
  async next(): Promise<Batch> {
    const first = this.#ahead.shift();
    const batch = first ?? this.#make();
    this.#fill();
    return batch;
  }

  /** Waits for what is still being made, so that nothing is left floating. */
  async drain(): Promise<void> {
    const rest = await Promise.allSettled(this.#ahead.splice(0));
    for (const made of rest)
      if (made.status === "fulfilled")
        this.#source.loader.release(made.value.images);
  }

  #fill(): void {
    while (
      this.#ahead.length < AHEAD &&
      this.#asked < this.#source.iterations
    ) {
      const batch = this.#make();
      // Its failure is met when the batch is asked for, which may be later than it happens.
      batch.catch(() => undefined);
      this.#ahead.push(batch);
    }
  }

  async #make(): Promise<Batch> {
    const { loader, domain, sampler, view, rowOf } = this.#source;
    const iteration = this.#asked++;
    const crops = atLeastTwo(sampler.next());
    const images = await loader.trainingBatch(domain.set, crops, {
      ...view,
      iteration,
    });
    const rows = rowOf === undefined ? crops : crops.map((crop) => rowOf[crop]);
    return { crops, rows, images };
  }
}

/** A batch norm over a single crop has no variance: the crop is taken twice, in two views. */
function atLeastTwo(crops: Int32Array): Int32Array {
  return crops.length === 1 ? Int32Array.of(crops[0], crops[0]) : crops;
}
