import type { Entry as IndexEntry, EntryView } from "#index/gallery-types";
import { featureToWire } from "./features.js";
import { timestamp, wordFrom } from "./fields.js";
import type { Entry } from "./generated/reid/v1/Entry.js";
import type { ModelVersion } from "./registry.js";

/** How much of an entry is returned. @throws {FieldInvalidError} */
export function viewFrom(value: string | number): EntryView {
  return wordFrom<EntryView>(value, "view", "ENTRY_VIEW", {
    UNSPECIFIED: "basic",
    BASIC: "basic",
    FULL: "full",
    FEATURE: "feature",
    CROP: "crop",
  });
}

/** Whether answers with this view are large. */
export function isLargeView(view: EntryView): boolean {
  return view === "feature" || view === "crop";
}

/** An entry as the wire has it; `model` is its gallery's. */
export function entryToWire(entry: IndexEntry, model: ModelVersion): Entry {
  return {
    entryId: entry.entryId,
    identity: entry.identity,
    cameraId: entry.cameraId,
    capturedAt: timestamp(entry.capturedAtUs),
    trackId: entry.trackId,
    attributes: entry.attributes,
    expiresAt: timestamp(entry.expiresAtUs),
    feature:
      entry.feature === undefined
        ? null
        : featureToWire(entry.feature, model, "f32le"),
    crop: entry.crop ?? new Uint8Array(),
    enrolledAt: timestamp(entry.enrolledAtUs),
    sequence: String(entry.sequence),
  };
}
