import type { ErrorData } from "#core/errors";

/** Where an encoder runs. */
export type Device = "auto" | "cpu" | "cuda" | "webgpu";

/** What a worker needs to run an encoder. */
export interface EncoderSource {
  /** `name/version`. */
  readonly key: string;
  /** Path of encoder.onnx: `image` uint8 [batch, H, W, 3] → `feature` float32 [batch, D]. */
  readonly path: string;
  readonly heightPx: number;
  readonly widthPx: number;
  /** D. */
  readonly dimension: number;
}

/** How a worker runs its encoders; given when it starts. */
export interface WorkerSettings {
  readonly device: Device;
  /** Threads of the engine. */
  readonly threads: number;
  /** Crops in one run, at most: the size of the input buffer. */
  readonly maxBatch: number;
}

/** What the main thread asks of a worker; answered in order. */
export type WorkerRequest =
  | {
      readonly id: number;
      readonly type: "load";
      readonly encoder: EncoderSource;
    }
  | { readonly id: number; readonly type: "unload"; readonly key: string }
  | {
      readonly id: number;
      readonly type: "run";
      readonly key: string;
      /** Each uint8 [H, W, 3]; transferred: the sender's are empty afterwards. */
      readonly crops: readonly ArrayBuffer[];
    };

/** What a worker answers. */
export type WorkerResponse =
  | { readonly id: number; readonly type: "loaded"; readonly device: string }
  | { readonly id: number; readonly type: "unloaded" }
  | {
      readonly id: number;
      readonly type: "features";
      /** float32 [batch, D]; transferred. */
      readonly features: Float32Array;
      /** The run alone, ms. */
      readonly encoderMs: number;
    }
  | { readonly id: number; readonly type: "failed"; readonly error: ErrorData };
