import { norm } from "#core/vectors";
import type { ModelVersion } from "./registry.js";

/** The mean of one track. */
export interface TrackMean {
  readonly cameraId: string;
  readonly trackId: string;
  /** float32 [D], unit norm. */
  readonly feature: Float32Array;
  readonly cropCount: number;
  /** Norm of the mean before normalizing, (0, 1]. */
  readonly agreement: number;
  readonly startUs: number;
  /** Just after the last crop. */
  readonly endUs: number;
  readonly model: ModelVersion;
}

/** The features of one track, added up as they come; on one model version. */
export class TrackPool {
  readonly cameraId: string;
  readonly trackId: string;
  readonly model: ModelVersion;
  readonly #dimension: number;
  /** From the first crop on: a track whose crops all fail costs nothing. */
  #sum: Float64Array | undefined;
  #count = 0;
  #startUs = Infinity;
  #endUs = 0;

  constructor(
    track: { readonly cameraId: string; readonly trackId: string },
    model: ModelVersion,
    dimension: number,
  ) {
    this.cameraId = track.cameraId;
    this.trackId = track.trackId;
    this.model = model;
    this.#dimension = dimension;
  }

  /** Crops pooled so far. */
  get count(): number {
    return this.#count;
  }

  /** @param feature  float32 [D], unit norm; only read */
  add(feature: Float32Array, capturedAtUs: number): void {
    const sum = (this.#sum ??= new Float64Array(this.#dimension));
    for (let i = 0; i < feature.length; i++) sum[i] += feature[i];
    this.#count++;
    this.#startUs = Math.min(this.#startUs, capturedAtUs);
    this.#endUs = Math.max(this.#endUs, capturedAtUs + 1);
  }

  /** The mean, or undefined where no crop was pooled or the crops cancel out. */
  mean(): TrackMean | undefined {
    if (this.#sum === undefined) return undefined;
    const mean = Float32Array.from(this.#sum, (sum) => sum / this.#count);
    const agreement = norm(mean);
    if (agreement === 0) return undefined;
    return {
      cameraId: this.cameraId,
      trackId: this.trackId,
      feature: mean.map((value) => value / agreement),
      cropCount: this.#count,
      agreement: Math.min(1, agreement),
      startUs: this.#startUs,
      endUs: this.#endUs,
      model: this.model,
    };
  }
}

/** A track's key: ids hold no control characters, so the pair is unambiguous. */
export function trackKey(cameraId: string, trackId: string): string {
  return `${cameraId}\u0000${trackId}`;
}
