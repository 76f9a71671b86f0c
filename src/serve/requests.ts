import type { Priority } from "./batcher.js";
import type { ReidError } from "#core/errors";
import { BatchTooLargeError, FieldInvalidError } from "./errors.js";
import { MAX_VALUES_FEATURES, type FeatureEncoding } from "./features.js";
import { requireName, wordFrom } from "./fields.js";
import type { Feature__Output } from "./generated/reid/v1/Feature.js";
import type { ModelVersion__Output } from "./generated/reid/v1/ModelVersion.js";
import type { ModelReference } from "./registry.js";
import type { Role } from "./rpcs.js";

/** @throws {FieldInvalidError} */
export function priorityFrom(
  value: string | number,
  field = "priority",
  byDefault: Priority = "interactive",
): Priority {
  return wordFrom<Priority>(value, field, "PRIORITY", {
    UNSPECIFIED: byDefault,
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

/**
 * Whether online mode may learn from the crops; undefined: as the server is configured. From a reader's it never does.
 *
 * @throws {FieldInvalidError}
 */
export function observeFrom(
  value: string | number,
  role: Role,
): boolean | undefined {
  return wordFrom(value, "observe", "OBSERVE", {
    UNSPECIFIED: role === "reader" ? false : undefined,
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

/** Checks how many features came as `values`. @throws {FieldInvalidError} */
export function requireFewValuesIn(
  items: readonly { readonly feature?: Feature__Output | null }[],
  field: string,
): void {
  const positions = [...items.keys()].filter(
    (i) => (items[i].feature?.values.length ?? 0) > 0,
  );
  if (positions.length > MAX_VALUES_FEATURES)
    throw new FieldInvalidError(
      `${field}[${positions[MAX_VALUES_FEATURES]}].feature.values`,
      `one of ${positions.length} features`,
      `f32le or f16le for more than ${MAX_VALUES_FEATURES}`,
    );
}

/** Which part of an item each failure is about, where that is always the same. */
const itemParts: Readonly<Record<string, string>> = {
  ENTRY_EXISTS: ".entry.entry_id",
  ENTRY_NOT_FOUND: ".entry_id",
  FEATURE_DIMENSION: ".feature",
  FEATURE_FORM: ".feature",
  FEATURE_NOT_FINITE: ".feature",
  FEATURE_NOT_UNIT: ".feature",
  MODEL_INCOMPATIBLE: ".crop",
  MODEL_MISMATCH: ".feature.model",
};

/**
 * The path in the request that the failure of one item is about.
 *
 * @param item  path of the item; empty: the request itself is the item
 */
export function itemField(error: ReidError, item: string): string {
  const path = `${item}${itemParts[error.code] ?? ""}`;
  return item === "" ? path.slice(1) : path;
}
