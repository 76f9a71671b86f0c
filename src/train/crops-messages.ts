import type { ErrorData } from "#core/errors";

/** A list of crops that the workers hold, by the number the loader gave it. */
export interface RegisterMessage {
  readonly kind: "register";
  readonly set: number;
  readonly paths: readonly string[];
  readonly heightPx: number;
  readonly widthPx: number;
  /** uint8 [slots, H, W, 3]: resized crops, crop i in slot i; shared by all workers. */
  readonly cache: SharedArrayBuffer;
  /** uint8 [slots]: 1 once a slot is filled. */
  readonly filled: SharedArrayBuffer;
}

/** A list that is no longer needed. */
export interface DropMessage {
  readonly kind: "drop";
  readonly set: number;
}

/** How a view of each crop is made; `undefined` in a fill message: as evaluation sees it. */
export interface ViewKey {
  readonly seed: number;
  /** Names the stream of random numbers: the domain. */
  readonly name: string;
  readonly epoch: number;
  readonly iteration: number;
  readonly padPx: number;
}

/** Fills one batch. */
export interface FillMessage {
  readonly kind: "fill";
  readonly job: number;
  readonly set: number;
  /** int32 [B], positions in the set's paths. */
  readonly crops: Int32Array;
  /** float32 [B, 3, H, W] normalized, or uint8 [B, H, W, 3]; transferred. */
  readonly buffer: ArrayBuffer;
  readonly layout: "normalized" | "pixels";
  readonly view?: ViewKey;
}

/** Decodes crops into the cache, and tells which cannot be. */
export interface CheckMessage {
  readonly kind: "check";
  readonly job: number;
  readonly set: number;
  readonly crops: Int32Array;
}

/** What a worker is told. */
export type CropRequest =
  RegisterMessage | DropMessage | FillMessage | CheckMessage;

/** A crop that cannot be decoded. */
export interface CropFailure {
  readonly crop: number;
  readonly reason: string;
}

/** What a worker answers. */
export type CropReply =
  | {
      readonly kind: "filled";
      readonly job: number;
      readonly buffer: ArrayBuffer;
    }
  | {
      readonly kind: "checked";
      readonly job: number;
      readonly failures: readonly CropFailure[];
    }
  | {
      readonly kind: "failed";
      readonly job: number;
      readonly error: ErrorData;
    };
