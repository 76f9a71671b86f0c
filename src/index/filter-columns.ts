import { MISSING } from "./dictionary.js";
import type { AttributeCondition, Filter } from "./filter.js";
import { pairOf, type GalleryRows } from "./gallery-rows.js";
import { rowsInChunk, type RowChunk } from "./row-chunk.js";

/** uint8 [rowsInChunk]: 1 where a row of the chunk passes. */
export type Mask = Uint8Array;

/** Clears the mask where a condition does not hold, from a position on. */
type Condition = (chunk: RowChunk, mask: Mask, from: number) => void;

/** One row for each field of a filter: the condition it sets on columns, or none. */
const conditions: Readonly<
  Record<
    keyof Filter,
    (filter: Filter, rows: GalleryRows) => Condition | undefined
  >
> = {
  cameraIn: ({ cameraIn }, rows) =>
    coded("camera", cameraIn, rows.cameras, true),
  cameraNotIn: ({ cameraNotIn }, rows) =>
    coded("camera", cameraNotIn, rows.cameras, false),
  identityIn: ({ identityIn }, rows) =>
    coded("identity", identityIn, rows.identities, true),
  identityNotIn: ({ identityNotIn }, rows) =>
    coded("identity", identityNotIn, rows.identities, false),
  trackIn: ({ trackIn }, rows) => coded("track", trackIn, rows.tracks, true),
  entryNotIn: ({ entryNotIn = [] }, rows) =>
    entryNotIn.length === 0 ? undefined : notThese(entryNotIn, rows),
  identified: ({ identified = "either" }) =>
    identified === "either" ? undefined : known(identified === "present"),
  captured: ({ captured }) => {
    const { startUs, endUs } = captured ?? {};
    return startUs === undefined && endUs === undefined
      ? undefined
      : within(startUs ?? -Infinity, endUs ?? Infinity);
  },
  attributes: ({ attributes = [] }, rows) => {
    if (attributes.length === 0) return undefined;
    const all = attributes.map((one) => attribute(one, rows));
    return (chunk, mask, from) => {
      for (const clear of all) clear(chunk, mask, from);
    };
  },
  notBoth: ({ notBoth }, rows) =>
    notBoth === undefined ? undefined : notBothOf(notBoth, rows),
};

/** The code is one of a list, or is none of it. A missing value is in no list. */
function coded(
  column: "camera" | "identity" | "track",
  list: readonly string[] | undefined,
  dictionary: GalleryRows["cameras"],
  wanted: boolean,
): Condition | undefined {
  if (list === undefined || list.length === 0) return undefined;
  const passes = dictionary.marks(list);
  if (!wanted) for (let i = 0; i < passes.length; i++) passes[i] ^= 1;
  return ({ columns, count }, mask, from) => {
    const codes = columns[column];
    for (let i = from; i < count; i++) mask[i] &= passes[codes[i]];
  };
}

function known(wanted: boolean): Condition {
  return ({ columns, count }, mask, from) => {
    const codes = columns.identity;
    for (let i = from; i < count; i++)
      if ((codes[i] !== MISSING) !== wanted) mask[i] = 0;
  };
}

/** A time that is not known is NaN, which is in no span. */
function within(startUs: number, endUs: number): Condition {
  return ({ columns, count }, mask, from) => {
    const times = columns.capturedAtUs;
    for (let i = from; i < count; i++)
      if (!(times[i] >= startUs && times[i] < endUs)) mask[i] = 0;
  };
}

function attribute(
  { key, anyOf = [], noneOf = [] }: AttributeCondition,
  rows: GalleryRows,
): Condition {
  const wanted = anyOf.length > 0;
  const values = wanted ? anyOf : noneOf;
  const marks = rows.pairs.marks(values.map((value) => pairOf(key, value)));
  return ({ columns, pairs, count }, mask, from) => {
    const { pairsEnd } = columns;
    let start = from === 0 ? 0 : pairsEnd[from - 1];
    for (let i = from; i < count; i++) {
      const end = pairsEnd[i];
      let listed = false;
      for (let j = start; j < end; j++)
        if (marks[pairs[j]] === 1) listed = true;
      if (listed !== wanted) mask[i] = 0;
      start = end;
    }
  };
}

function notThese(entryIds: readonly string[], rows: GalleryRows): Condition {
  const sequences = entryIds
    .map((entryId) => rows.named(entryId)?.sequence)
    .filter((sequence) => sequence !== undefined);
  return (chunk, mask, from) => {
    for (const sequence of sequences) {
      const at = chunk.lowerBound(sequence);
      if (at >= from && chunk.columns.sequence[at] === sequence) mask[at] = 0;
    }
  };
}

function notBothOf(
  { identity, cameraId }: NonNullable<Filter["notBoth"]>,
  rows: GalleryRows,
): Condition {
  const person = rows.identities.find(identity);
  const camera = rows.cameras.find(cameraId);
  return ({ columns, count }, mask, from) => {
    for (let i = from; i < count; i++)
      if (columns.identity[i] === person && columns.camera[i] === camera)
        mask[i] = 0;
  };
}

/** Says which rows of a chunk pass. The mask is good until the next call of any: use it in the same turn. */
export type ChunkFilter = (chunk: RowChunk, from?: number) => Mask;

const scratch: Mask = new Uint8Array(rowsInChunk);

/**
 * The living rows that pass every filter and do not expire by a time.
 *
 * Holds while the rows stay as they are: codes and sequences are looked up once.
 */
export function chunkFilter(
  rows: GalleryRows,
  filters: readonly Filter[],
  nowUs: number,
): ChunkFilter {
  const all = filters.flatMap((filter) =>
    Object.values(conditions)
      .map((condition) => condition(filter, rows))
      .filter((condition) => condition !== undefined),
  );
  return (chunk, from = 0) => {
    const { alive, expiresAtUs } = chunk.columns;
    if (nowUs < chunk.nextExpiryUs) scratch.set(alive.subarray(0, chunk.count));
    else
      for (let i = from; i < chunk.count; i++)
        scratch[i] = alive[i] === 1 && expiresAtUs[i] > nowUs ? 1 : 0;
    for (const clear of all) clear(chunk, scratch, from);
    return scratch;
  };
}
