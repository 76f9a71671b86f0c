import type { EntryRecord, GalleryRecord } from "./gallery-records.js";
import type { IndexKind, IndexSpec } from "./index-kinds.js";

/** Fields of a record, and whether what was decoded can be one: a damaged byte may have made anything of it. */
type Fields<Record> = Readonly<{
  [Name in keyof Required<Record>]: (value: unknown) => boolean;
}>;

const entryFields: Fields<EntryRecord> = {
  entryId: (value) => isText(value) && value !== "",
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
  name: (value) => isText(value) && value !== "",
  model: (value) =>
    isObject(value) && isText(value["name"]) && isCount(value["version"]),
  dimension: (value) => isCount(value) && value > 0,
  modelPolicy: (value) => value === "pinned" || value === "follow-active",
  index: isIndex,
  autoIndex: (value) => value === undefined || value === true,
  nextIndex: (value) => value === undefined || isIndex(value),
  forgottenSequence: (value) => value === undefined || isCount(value),
  cropRetention: (value) => value === "none" || value === "keep",
  defaultTtlMs: isNumberOrNone,
  maxEntries: (value) => typeof value === "number" && value >= 0,
  tags: isTexts,
  number: (value) => isCount(value) && value > 0,
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

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isTexts(value: unknown): boolean {
  if (!isObject(value)) return false;
  for (const name in value) if (!isText(value[name])) return false;
  return true;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isNumberOrNone(value: unknown): boolean {
  return value === undefined || value === null || isNumber(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** The numbers of each kind, and what they may be. */
const indexNumbers: Readonly<
  Record<IndexKind, Readonly<Record<string, readonly [number, number]>>>
> = {
  flat: {},
  hnsw: { m: [4, 128], efConstruction: [8, 2000], efSearch: [1, 10_000] },
  ivf: { lists: [0, 65_536], probes: [0, 65_536] },
};

function isIndex(value: unknown): value is IndexSpec {
  if (!isObject(value)) return false;
  const { kind, storage, pq } = value;
  if (!isText(kind) || !Object.hasOwn(indexNumbers, kind)) return false;
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
    Object.entries(indexNumbers[kind as IndexKind]).every(
      ([name, [least, most]]) => {
        const number = value[name];
        return isCount(number) && number >= least && number <= most;
      },
    )
  );
}
