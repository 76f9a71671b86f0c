import { normalizeRows, norm } from "#core/vectors";
import {
  FeatureDimensionError,
  FeatureNotFiniteError,
  FeatureNotUnitError,
  ModelMismatchError,
} from "#index/errors";
import { FeatureFormError } from "./errors.js";
import { fromFloat16, toFloat16 } from "./float16.js";
import type { Feature, Feature__Output } from "./generated/reid/v1/Feature.js";
import type { ModelVersion } from "./registry.js";

/** How features travel. */
export type FeatureEncoding = "f32le" | "f16le" | "values";

/** What a caller's feature must be to go with a gallery. */
export interface ExpectedFeature {
  readonly gallery: string;
  readonly model: ModelVersion;
  readonly dimension: number;
  /** Stands for a model without a name. */
  readonly defaultModel: string;
}

/** Features in `values` that one message may hold. */
export const MAX_VALUES_FEATURES = 8;
/** How far the norm of a caller's feature may be from 1. */
const NORM_TOLERANCE = 1e-3;

/**
 * A caller's feature, checked and normalized again.
 *
 * @returns  float32 [D], unit norm, the caller's own
 * @throws {FeatureFormError} @throws {ModelMismatchError} @throws {FeatureDimensionError}
 * @throws {FeatureNotFiniteError} @throws {FeatureNotUnitError}
 */
export function featureFromWire(
  message: Feature__Output,
  expected: ExpectedFeature,
): Float32Array {
  const feature = numbersFrom(message);
  checkModel(message, expected);
  if (feature.length !== expected.dimension)
    throw new FeatureDimensionError(
      expected.gallery,
      expected.dimension,
      feature.length,
    );
  const length = norm(feature);
  // Squares of float32 do not overflow float64: the sum is finite where every number is.
  if (!Number.isFinite(length))
    throw new FeatureNotFiniteError(
      feature.findIndex((value) => !Number.isFinite(value)),
    );
  if (!(Math.abs(length - 1) <= NORM_TOLERANCE))
    throw new FeatureNotUnitError(length);
  return normalizeRows(feature, expected.dimension);
}

/** A feature with the model version that made it; the bytes are a view of the feature where they can be. */
export function featureToWire(
  feature: Float32Array,
  model: ModelVersion,
  encoding: FeatureEncoding,
): Feature {
  const { name, version } = model;
  return { ...encoders[encoding](feature), model: { name, version } };
}

const encoders: Readonly<
  Record<FeatureEncoding, (feature: Float32Array) => Feature>
> = {
  f32le: (feature) => ({
    f32le: Buffer.from(feature.buffer, feature.byteOffset, feature.byteLength),
  }),
  f16le: (feature) => {
    const halves = Uint16Array.from(feature, toFloat16);
    return { f16le: Buffer.from(halves.buffer) };
  },
  values: (feature) => ({ values: [...feature] }),
};

function numbersFrom(message: Feature__Output): Float32Array {
  const { f32le, f16le, values } = message;
  const given = [f32le.length > 0, f16le.length > 0, values.length > 0];
  const count = given.filter(Boolean).length;
  if (count !== 1)
    throw new FeatureFormError(
      count === 0 ? "has no numbers" : "has several encodings",
    );
  if (values.length > 0) return Float32Array.from(values);
  const [bytes, size] = f32le.length > 0 ? [f32le, 4] : [f16le, 2];
  if (bytes.length % size !== 0)
    throw new FeatureFormError(
      `has ${bytes.length} bytes, which is no multiple of ${size}`,
    );
  // Copied: the message's bytes lie anywhere in the received buffer, floats need a multiple of four.
  const own = new Uint8Array(bytes).buffer;
  return size === 4
    ? new Float32Array(own)
    : Float32Array.from(new Uint16Array(own), fromFloat16);
}

function checkModel(message: Feature__Output, expected: ExpectedFeature): void {
  const { model } = message;
  if (model === null || model.version === 0)
    throw new FeatureFormError("names no model version");
  const name = model.name === "" ? expected.defaultModel : model.name;
  if (
    name !== expected.model.name ||
    model.version !== expected.model.version
  ) {
    throw new ModelMismatchError(
      expected.gallery,
      `${expected.model.name}/${expected.model.version}`,
      `${name}/${model.version}`,
    );
  }
}
