import type { AttributeCondition, Filter } from "./filter.js";
import type { GalleryRows, Row } from "./gallery-rows.js";
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

/** Fields that leave entries out and whose entries can be looked up: no walk over the gallery. */
const excluding: ReadonlySet<string> = new Set<keyof Filter>([
  "cameraNotIn",
  "identityNotIn",
  "entryNotIn",
  "notBoth",
]);

/** Ids gathered one by one: float64, without a JavaScript number array between. */
class IdList {
  #ids = new Float64Array(1024);
  #count = 0;

  push(id: number): void {
    if (this.#count === this.#ids.length) {
      const larger = new Float64Array(2 * this.#count);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#count++] = id;
  }

  /** A view, valid until the next push. */
  get ids(): Float64Array {
    return this.#ids.subarray(0, this.#count);
  }
}

/** Sequences of the entries that can pass: by identity or camera where a filter names some, else all. */
function* candidatesOf(
  rows: GalleryRows,
  filters: readonly Filter[],
): Iterable<Row> {
  for (const { identityIn = [], cameraIn = [] } of filters) {
    // An entry has one identity and one camera: different ones share no entry.
    const sets =
      identityIn.length > 0
        ? [...new Set(identityIn)].map((identity) => rows.ofIdentity(identity))
        : [...new Set(cameraIn)].map((camera) => rows.ofCamera(camera));
    if (sets.length === 0) continue;
    for (const set of sets)
      for (const sequence of set) {
        const row = rows.at(sequence);
        if (row !== undefined) yield row;
      }
    return;
  }
  yield* rows.all();
}

/** Sequences of the entries that a filter leaves out, some twice. */
function* leftOut(
  rows: GalleryRows,
  { cameraNotIn = [], identityNotIn = [], entryNotIn = [], notBoth }: Filter,
): Iterable<number> {
  for (const camera of cameraNotIn) yield* rows.ofCamera(camera);
  for (const identity of identityNotIn) yield* rows.ofIdentity(identity);
  for (const entryId of entryNotIn) {
    const row = rows.named(entryId);
    if (row !== undefined) yield row.sequence;
  }
  if (notBoth === undefined) return;
  for (const sequence of rows.ofIdentity(notBoth.identity))
    if (rows.at(sequence)?.cameraId === notBoth.cameraId) yield sequence;
}

/**
 * The ids that pass all filters and have not expired.
 *
 * Conditions that only leave out are looked up by camera, identity and id; identity and camera lists
 * narrow the rest; anything else walks over the gallery, a few thousand rows at a time, so that other calls
 * are answered meanwhile. The rows must not change until it is done.
 */
export async function compileFilter(
  rows: GalleryRows,
  filters: readonly (Filter | undefined)[],
  nowUs: number,
): Promise<CompiledFilter> {
  const set = filters.filter((filter) => filter !== undefined);
  const turns = new Turns();
  const without = new Set(rows.expired(nowUs).map(({ sequence }) => sequence));
  const found = new IdList();
  const onlyExcluding = set.every((filter) =>
    Object.entries(conditions).every(
      ([name, condition]) =>
        excluding.has(name) || condition(filter) === undefined,
    ),
  );
  if (onlyExcluding) {
    for (const filter of set)
      for (const sequence of leftOut(rows, filter)) {
        without.add(sequence);
        if (turns.isOver) await turns.next();
      }
    if (without.size === 0) return { ids: undefined, survivors: rows.size };
    for (const sequence of without) {
      found.push(sequence);
      if (turns.isOver) await turns.next();
    }
    return {
      ids: { mode: "except", ids: found.ids },
      survivors: rows.size - without.size,
    };
  }
  const holds = passes(set);
  for (const row of candidatesOf(rows, set)) {
    if (!without.has(row.sequence) && holds(row)) found.push(row.sequence);
    if (turns.isOver) await turns.next();
  }
  return {
    ids: { mode: "only", ids: found.ids },
    survivors: found.ids.length,
  };
}
