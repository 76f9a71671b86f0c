import type { AttributeCondition, Filter } from "./filter.js";
import { chunkFilter, type ChunkFilter, type Mask } from "./filter-columns.js";
import type { GalleryRows, Row } from "./gallery-rows.js";
import { rowsInChunk, type RowChunk } from "./row-chunk.js";
import { Turns } from "./turns.js";
import type { IdFilter } from "./vector-index.js";

type Condition = (row: Row) => boolean;

/** One row for each field of a filter: the condition it sets, or none. */
const conditions: Readonly<
  Record<keyof Filter, (filter: Filter) => Condition | undefined>
> = {
  // A missing value is "", which no list of ids can hold: it fails `in`, passes `not in`.
  cameraIn: ({ cameraIn }) => within(cameraIn, (row) => row.cameraId),
  cameraNotIn: ({ cameraNotIn }) =>
    not(within(cameraNotIn, (row) => row.cameraId)),
  identityIn: ({ identityIn }) => within(identityIn, (row) => row.identity),
  identityNotIn: ({ identityNotIn }) =>
    not(within(identityNotIn, (row) => row.identity)),
  trackIn: ({ trackIn }) => within(trackIn, (row) => row.trackId),
  entryNotIn: ({ entryNotIn }) => not(within(entryNotIn, (row) => row.entryId)),
  identified: ({ identified = "either" }) =>
    identified === "either"
      ? undefined
      : (row) => (row.identity !== "") === (identified === "present"),
  captured: ({ captured }) => {
    const { startUs, endUs } = captured ?? {};
    if (startUs === undefined && endUs === undefined) return undefined;
    return ({ capturedAtUs }) =>
      capturedAtUs !== undefined &&
      capturedAtUs >= (startUs ?? -Infinity) &&
      capturedAtUs < (endUs ?? Infinity);
  },
  attributes: ({ attributes = [] }) => {
    if (attributes.length === 0) return undefined;
    const all = attributes.map(attributeCondition);
    return (row) => all.every((holds) => holds(row));
  },
  notBoth: ({ notBoth }) =>
    notBoth === undefined
      ? undefined
      : (row) =>
          row.identity !== notBoth.identity ||
          row.cameraId !== notBoth.cameraId,
};

function within(
  list: readonly string[] | undefined,
  value: (row: Row) => string,
): Condition | undefined {
  if (list === undefined || list.length === 0) return undefined;
  const wanted = new Set(list);
  return (row) => wanted.has(value(row));
}

function not(condition: Condition | undefined): Condition | undefined {
  return condition && ((row) => !condition(row));
}

function attributeCondition({
  key,
  anyOf = [],
  noneOf = [],
}: AttributeCondition): Condition {
  const listed = new Set(anyOf.length > 0 ? anyOf : noneOf);
  const wanted = anyOf.length > 0;
  return ({ attributes }) => {
    const value = Object.hasOwn(attributes, key) ? attributes[key] : undefined;
    return (value !== undefined && listed.has(value)) === wanted;
  };
}

function conditionsOf(filter: Filter | undefined): Condition[] {
  if (filter === undefined) return [];
  return Object.values(conditions)
    .map((condition) => condition(filter))
    .filter((condition) => condition !== undefined);
}

/** Whether any condition is set. */
export function hasConditions(filter: Filter | undefined): boolean {
  return conditionsOf(filter).length > 0;
}

/** Whether an entry passes every filter. */
export function passes(
  filters: readonly (Filter | undefined)[],
): (row: Row) => boolean {
  const all = filters.flatMap(conditionsOf);
  return (row) => all.every((holds) => holds(row));
}

/** A filter as an index takes it. */
export interface CompiledFilter {
  /** Undefined: every entry passes. */
  readonly ids: IdFilter | undefined;
  /** Entries that pass. */
  readonly survivors: number;
}

/** Entries that pass, of one turn. */
export interface PassingRows {
  readonly count: number;
  /** Of the i-th; they rise by sequence. While the rows stay as they are, as is the next. */
  readonly featureId: (i: number) => number;
  /** The i-th, as an object of its own. */
  readonly row: (i: number) => Row;
}

/** Where a walk begins, and at what time. */
export interface WalkOptions {
  /** −Infinity: expired entries pass too. */
  readonly nowUs: number;
  /** Entries up to this one are left out; default 0. */
  readonly afterSequence?: number;
}

/** A list of ids is as large as a bitmap over so many for each. */
const bitsOfListed = 64;

/** Rows looked up one by one instead of a walk over the columns: at most one of so many. */
const lookedUpShare = 32;

/** As many are always looked up. */
const lookedUpLeast = 64;

/** Entries whose time is over that one search looks up: some 2 µs each. */
const expiredAtMost = 256;

/** Entries that can be looked up rather than found by a walk. */
function fewEnough(rows: GalleryRows): number {
  return Math.max(lookedUpLeast, rows.size / lookedUpShare);
}

/** Fields that only leave entries out, by identity or id. */
const excluding: ReadonlySet<string> = new Set<keyof Filter>([
  "identityNotIn",
  "entryNotIn",
  "notBoth",
]);

/** Feature ids of the entries that filters leave out; undefined: there are too many, or a walk is needed anyway. */
function leftOut(
  rows: GalleryRows,
  filters: readonly Filter[],
): ReadonlySet<number> | undefined {
  const onlyExcluding = filters.every((filter) =>
    Object.entries(conditions).every(
      ([name, condition]) =>
        excluding.has(name) || condition(filter) === undefined,
    ),
  );
  if (!onlyExcluding) return undefined;
  let looked = 0;
  for (const { identityNotIn = [], entryNotIn = [], notBoth } of filters) {
    for (const identity of identityNotIn)
      looked += 1 + rows.countOfIdentity(identity);
    looked += entryNotIn.length;
    if (notBoth !== undefined) looked += rows.countOfIdentity(notBoth.identity);
  }
  if (looked > fewEnough(rows)) return undefined;
  const without = new Set<number>();
  for (const { identityNotIn = [], entryNotIn = [], notBoth } of filters) {
    for (const identity of identityNotIn)
      for (const featureId of rows.ofIdentity(identity)) without.add(featureId);
    for (const entryId of entryNotIn) {
      const row = rows.named(entryId);
      if (row !== undefined) without.add(row.featureId);
    }
    if (notBoth === undefined) continue;
    for (const featureId of rows.ofIdentity(notBoth.identity))
      if (rows.at(featureId)?.cameraId === notBoth.cameraId)
        without.add(featureId);
  }
  return without;
}

function passesAt(
  filters: readonly Filter[],
  nowUs: number,
): (row: Row) => boolean {
  const holds = passes(filters);
  return (row) => (row.expiresAtUs ?? Infinity) > nowUs && holds(row);
}

/** Entries of the identities that one filter lists, by rising sequence; undefined: none does, or they are many. */
function listed(
  rows: GalleryRows,
  filters: readonly Filter[],
): readonly Row[] | undefined {
  for (const { identityIn = [] } of filters) {
    if (identityIn.length === 0) continue;
    const identities = [...new Set(identityIn)];
    const count = identities.reduce(
      (sum, identity) => sum + 1 + rows.countOfIdentity(identity),
      0,
    );
    if (count > fewEnough(rows)) continue;
    return identities
      .flatMap((identity) => [...rows.ofIdentity(identity)])
      .flatMap((featureId) => rows.at(featureId) ?? [])
      .sort((a, b) => a.sequence - b.sequence);
  }
  return undefined;
}

/**
 * The entries that pass every filter and do not expire by a time, by rising sequence, chunk by chunk.
 *
 * Each chunk takes one turn of the main thread. The rows must not change until it is done.
 */
export async function* passingRows(
  rows: GalleryRows,
  filters: readonly Filter[],
  { nowUs, afterSequence = 0 }: WalkOptions,
): AsyncIterable<PassingRows> {
  const few = listed(rows, filters);
  if (few !== undefined) {
    const passing = passesAt(filters, nowUs);
    const found = few.filter(
      (row) => row.sequence > afterSequence && passing(row),
    );
    yield {
      count: found.length,
      featureId: (i) => found[i].featureId,
      row: (i) => found[i],
    };
    return;
  }
  const filter = chunkFilter(rows, filters, nowUs);
  const turns = new Turns(rowsInChunk);
  for (let at = rows.chunkAfter(afterSequence); at < rows.chunks.length; at++) {
    const chunk = rows.chunks[at];
    const from = chunk.lowerBound(afterSequence + 1);
    const positions = positionsOf(filter(chunk, from), from, chunk.count);
    yield {
      count: positions.length,
      featureId: (i) => chunk.columns.featureId[positions[i]],
      row: (i) => rows.rowAt(chunk, positions[i]),
    };
    if (turns.count(chunk.count - from)) await turns.next();
  }
}

/** Where a mask is set. */
function positionsOf(mask: Mask, from: number, to: number): Uint32Array {
  let count = 0;
  for (let i = from; i < to; i++) count += mask[i];
  const positions = new Uint32Array(count);
  count = 0;
  for (let i = from; i < to; i++) if (mask[i] === 1) positions[count++] = i;
  return positions;
}

function isSet<Value>(value: Value | undefined): value is Value {
  return value !== undefined;
}

/**
 * The feature ids that pass all filters and have not expired.
 *
 * What only leaves out few entries is looked up, and so are few identities; anything else is a walk over the
 * columns, a chunk at a time, so that other calls are answered meanwhile. The rows must not change until it is done.
 */
export async function compileFilter(
  rows: GalleryRows,
  filters: readonly (Filter | undefined)[],
  nowUs: number,
): Promise<CompiledFilter> {
  const set = filters.filter(isSet);
  const without = leftOut(rows, set);
  if (without !== undefined) {
    const all = new Set(without);
    for (const { featureId } of rows.expired(nowUs)) {
      all.add(featureId);
      // So many at once wait for the sweep: they are found by a walk, in turns.
      if (all.size > without.size + expiredAtMost)
        return walked(rows, chunkFilter(rows, set, nowUs));
    }
    if (all.size === 0) return { ids: undefined, survivors: rows.size };
    return {
      ids: { mode: "except", ids: Float64Array.from(all) },
      survivors: rows.size - all.size,
    };
  }
  const few = listed(rows, set);
  if (few !== undefined) {
    const passing = few.filter(passesAt(set, nowUs));
    const ids = Float64Array.from(passing, ({ featureId }) => featureId);
    return { ids: { mode: "only", ids }, survivors: ids.length };
  }
  return walked(rows, chunkFilter(rows, set, nowUs));
}

/** The entries of all chunks that pass, as a bitmap; as a list where most ids between the first and the last are gone. */
async function walked(
  rows: GalleryRows,
  filter: ChunkFilter,
): Promise<CompiledFilter> {
  const [firstId, lastId] = rows.featureIdSpan;
  const span = lastId - firstId + 1;
  const isDense = span <= bitsOfListed * rows.size;
  const bitmap = new Uint32Array(isDense ? Math.ceil(span / 32) : 0);
  const lists: Float64Array[] = [];
  const turns = new Turns(rowsInChunk);
  let survivors = 0;
  for (const chunk of rows.chunks) {
    if (isDense) survivors += setBits(bitmap, firstId, chunk, filter(chunk));
    else {
      const positions = positionsOf(filter(chunk), 0, chunk.count);
      const { featureId } = chunk.columns;
      lists.push(Float64Array.from(positions, (at) => featureId[at]));
      survivors += positions.length;
    }
    if (turns.count(chunk.count)) await turns.next();
  }
  if (isDense) return { ids: { mode: "only", bitmap, firstId }, survivors };
  const ids = new Float64Array(survivors);
  let start = 0;
  for (const list of lists) {
    ids.set(list, start);
    start += list.length;
  }
  return { ids: { mode: "only", ids }, survivors };
}

/** Sets the bits of the rows that pass. @returns how many do */
function setBits(
  bitmap: Uint32Array,
  firstId: number,
  { columns, count }: RowChunk,
  mask: Mask,
): number {
  const { featureId } = columns;
  let passing = 0;
  for (let i = 0; i < count; i++) {
    const bit = featureId[i] - firstId;
    bitmap[bit >>> 5] |= mask[i] << (bit & 31);
    passing += mask[i];
  }
  return passing;
}
