import type { Priority } from "./batcher.js";
import { BatchTooLargeError } from "./errors.js";
import type { FeatureEncoding } from "./features.js";
import { requireName, wordFrom } from "./fields.js";
import type { ModelVersion__Output } from "./generated/reid/v1/ModelVersion.js";
import type { ModelReference } from "./registry.js";

/** @throws {FieldInvalidError} */
export function priorityFrom(value: string | number): Priority {
  return wordFrom<Priority>(value, "priority", "PRIORITY", {
    UNSPECIFIED: "interactive",
    INTERACTIVE: "interactive",
    BULK: "bulk",
  });
}

/** @throws {FieldInvalidError} */
export function encodingFrom(
  value: string | number,
  field = "encoding",
): FeatureEncoding {
  return wordFrom<FeatureEncoding>(value, field, "FEATURE_ENCODING", {
    UNSPECIFIED: "f32le",
    F32LE: "f32le",
    F16LE: "f16le",
    VALUES: "values",
  });
}

/** Whether online mode may learn from the crops; undefined: as the server is configured. @throws {FieldInvalidError} */
export function observeFrom(value: string | number): boolean | undefined {
  return wordFrom(value, "observe", "OBSERVE", {
    UNSPECIFIED: undefined,
    YES: true,
    NO: false,
  });
}

/** Whether tracks are pooled. @throws {FieldInvalidError} */
export function poolingFrom(value: string | number): boolean {
  return wordFrom(value, "pooling", "POOLING", {
    UNSPECIFIED: false,
    NONE: false,
    TRACK_MEAN: true,
  });
}

/** A model as a caller pins it; undefined: none pinned. @throws {FieldInvalidError} */
export function modelFrom(
  value: ModelVersion__Output | null,
  field = "model",
): ModelReference | undefined {
  if (value === null) return undefined;
  const { name, version } = value;
  if (name !== "") requireName(name, `${field}.name`);
  return { name, version };
}

/** Checks the number of items of a call. @throws {BatchTooLargeError} */
export function requireBatch(
  items: readonly unknown[],
  field: string,
  maximum: number,
): void {
  if (items.length === 0 || items.length > maximum)
    throw new BatchTooLargeError(field, items.length, maximum);
}
