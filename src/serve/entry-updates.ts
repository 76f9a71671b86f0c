import type { EntryChanges } from "#index/gallery-types";
import { FieldInvalidError } from "./errors.js";
import { attributesFrom, microseconds, optionalId } from "./fields.js";
import type { Entry__Output } from "./generated/reid/v1/Entry.js";

type TextField = "identity" | "cameraId" | "trackId";
type TimeField = "capturedAt" | "expiresAt";

const texts: Readonly<Record<string, TextField>> = {
  identity: "identity",
  camera_id: "cameraId",
  track_id: "trackId",
};

const times: Readonly<Record<string, TimeField>> = {
  captured_at: "capturedAt",
  expires_at: "expiresAt",
};

const attributePrefix = "attributes.";

const known = [
  ...Object.keys(texts),
  ...Object.keys(times),
  "attributes",
  "attributes.<key>",
].join(", ");

/**
 * Parses new values of entries: the fields that the mask names. One that the entry leaves out is taken away.
 *
 * @param maximum  attributes of an entry
 * @throws {FieldInvalidError} a bad value, no entry, an empty mask, or a field that cannot be updated
 */
export function entryChangesFrom(
  entry: Entry__Output | null,
  mask: readonly string[],
  maximum: number,
): EntryChanges {
  if (entry === null)
    throw new FieldInvalidError("entry", "", "the new values");
  if (mask.length === 0)
    throw new FieldInvalidError("update_mask", "", `some of ${known}`);
  const changes: Record<string, string | number | null> = {};
  const set: Record<string, string | null> = {};
  for (const path of mask)
    if (Object.hasOwn(texts, path)) {
      const field = texts[path];
      changes[field] = optionalId(entry[field], `entry.${path}`);
    } else if (Object.hasOwn(times, path)) {
      const field = times[path];
      changes[`${field}Us`] =
        microseconds(entry[field], `entry.${path}`) ?? null;
    } else if (path.startsWith(attributePrefix)) {
      const key = path.slice(attributePrefix.length);
      const value = Object.hasOwn(entry.attributes, key)
        ? entry.attributes[key]
        : null;
      attributesFrom({ [key]: value ?? "" }, "update_mask", maximum);
      set[key] = value;
    } else if (path !== "attributes")
      throw new FieldInvalidError("update_mask", path, `some of ${known}`);
  if (!mask.some((path) => path.startsWith("attributes"))) return changes;
  const all = mask.includes("attributes")
    ? attributesFrom(entry.attributes, "entry.attributes", maximum)
    : undefined;
  return {
    ...changes,
    attributes: {
      set,
      maximum,
      ...(all === undefined ? {} : { replace: all }),
    },
  };
}
