import type { EntryRecord, GalleryRecord } from "./gallery-records.js";
import { indexRanges, type IndexKind, type IndexSpec } from "./index-kinds.js";
import {
  isCount,
  isCropRetention,
  isModelPolicy,
  isName,
  isObject,
  isPositive,
  isText,
  isTexts,
} from "./record-fields.js";

interface Range {
  readonly minimum: number;
  readonly maximum: number;
}

/** Fields of a record, and whether what was decoded can be one: a damaged byte may have made anything of it. */
type Fields<Record> = Readonly<{
  [Name in keyof Required<Record>]: (value: unknown) => boolean;
}>;

const entryFields: Fields<EntryRecord> = {
  entryId: isName,
  identity: isText,
  cameraId: isText,
  capturedAtUs: isNumberOrNone,
  trackId: isText,
  attributes: isTexts,
  expiresAtUs: isNumberOrNone,
  enrolledAtUs: isNumber,
  hasCrop: (value) => typeof value === "boolean",
  featureId: (value) => value === undefined || isCount(value),
};

const galleryFields: Fields<GalleryRecord> = {
  name: isName,
  model: (value) =>
    isObject(value) && isText(value["name"]) && isCount(value["version"]),
  dimension: isPositive,
  modelPolicy: isModelPolicy,
  index: isIndex,
  autoIndex: (value) => value === undefined || value === true,
  nextIndex: (value) => value === undefined || isIndex(value),
  forgottenSequence: (value) => value === undefined || isCount(value),
  cropRetention: isCropRetention,
  defaultTtlMs: isNumberOrNone,
  maxEntries: (value) => typeof value === "number" && value >= 0,
  tags: isTexts,
  number: isPositive,
  createdAtUs: isNumber,
  sequence: isCount,
  writtenCount: isCount,
  replacedCount: isCount,
  deletedCount: isCount,
};

const entryChecks = Object.entries(entryFields);
const galleryChecks = Object.entries(galleryFields);

/** Whether a value of the table of entries is an entry. */
export function isEntryRecord(value: unknown): value is EntryRecord {
  return hasFields(value, entryChecks);
}

/** Whether a value of the table of galleries is a gallery, of that name. */
export function isGalleryRecord(
  value: unknown,
  name: unknown,
): value is GalleryRecord {
  return hasFields(value, galleryChecks) && value["name"] === name;
}

function hasFields(
  value: unknown,
  checks: typeof entryChecks,
): value is Readonly<Record<string, unknown>> {
  if (!isObject(value)) return false;
  for (const [name, fits] of checks) if (!fits(value[name])) return false;
  return true;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isNumberOrNone(value: unknown): boolean {
  return value === undefined || value === null || isNumber(value);
}

function isIndex(value: unknown): value is IndexSpec {
  if (!isObject(value)) return false;
  const { kind, storage, pq } = value;
  if (!isText(kind) || !Object.hasOwn(indexRanges, kind)) return false;
  const isStorage =
    storage === undefined || ["f32", "f16", "int8"].includes(storage as string);
  const isProductCode =
    pq === undefined ||
    (isObject(pq) &&
      isCount(pq["segments"]) &&
      [4, 8].includes(pq["bits"] as number));
  return (
    isStorage &&
    isProductCode &&
    Object.entries<Range>(indexRanges[kind as IndexKind]).every(
      ([name, { minimum, maximum }]) => {
        const number = value[name];
        const least = kind === "ivf" ? 0 : minimum;
        return isCount(number) && number >= least && number <= maximum;
      },
    )
  );
}
