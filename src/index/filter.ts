import type { GalleryRows, Row } from "./gallery-rows.js";
import type { IdFilter } from "./vector-index.js";

/** Whether a value has to be there. */
export type Presence = "either" | "present" | "absent";

/** A span of time in microseconds since 1970, UTC. */
export interface TimeRange {
  /** Inclusive; open where left out. */
  readonly startUs?: number;
  /** Exclusive; open where left out. */
  readonly endUs?: number;
}

/** A condition on one attribute: exactly one list is not empty. */
export interface AttributeCondition {
  readonly key: string;
  readonly anyOf?: readonly string[];
  /** The complement of `anyOf`: an entry without the key passes. */
  readonly noneOf?: readonly string[];
}

/** Which entries take part: all set fields must hold, an empty or missing list is no condition. */
export interface Filter {
  readonly cameraIn?: readonly string[];
  readonly cameraNotIn?: readonly string[];
  readonly captured?: TimeRange;
  readonly identityIn?: readonly string[];
  readonly identityNotIn?: readonly string[];
  readonly identified?: Presence;
  readonly attributes?: readonly AttributeCondition[];
  readonly trackIn?: readonly string[];
  readonly entryNotIn?: readonly string[];
  /** Leaves out entries with this identity and this camera: the junk rule of Market-1501. */
  readonly notBoth?: { readonly identity: string; readonly cameraId: string };
}

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

function candidatesOf(
  rows: GalleryRows,
  filters: readonly Filter[],
): Iterable<Row> {
  for (const { identityIn = [], cameraIn = [] } of filters) {
    const sets =
      identityIn.length > 0
        ? identityIn.map((identity) => rows.ofIdentity(identity))
        : cameraIn.map((camera) => rows.ofCamera(camera));
    if (sets.length > 0) return rowsOf(rows, sets);
  }
  return rows.all();
}

function rowsOf(
  rows: GalleryRows,
  sets: readonly Iterable<number>[],
): Set<Row> {
  const found = new Set<Row>();
  for (const set of sets) {
    for (const sequence of set) {
      const row = rows.at(sequence);
      if (row !== undefined) found.add(row);
    }
  }
  return found;
}

function leftOut(
  rows: GalleryRows,
  { cameraNotIn = [], identityNotIn = [], entryNotIn = [], notBoth }: Filter,
): Set<Row> {
  const sets: Iterable<number>[] = [
    ...cameraNotIn.map((camera) => rows.ofCamera(camera)),
    ...identityNotIn.map((identity) => rows.ofIdentity(identity)),
    entryNotIn.flatMap((entryId) => rows.named(entryId)?.sequence ?? []),
  ];
  if (notBoth !== undefined)
    sets.push(
      [...rows.ofIdentity(notBoth.identity)].filter(
        (sequence) => rows.at(sequence)?.cameraId === notBoth.cameraId,
      ),
    );
  return rowsOf(rows, sets);
}

function idsOf(rows: readonly Row[]): Float64Array {
  return Float64Array.from(rows, (row) => row.sequence);
}

/**
 * The ids that pass all filters and have not expired.
 *
 * Conditions that only leave out are looked up by camera, identity and id; identity and camera lists
 * narrow the rest; anything else walks over the gallery.
 */
export function compileFilter(
  rows: GalleryRows,
  filters: readonly (Filter | undefined)[],
  nowUs: number,
): CompiledFilter {
  const set = filters.filter((filter) => filter !== undefined);
  const holds = passes(set);
  const expired = new Set(rows.expired(nowUs));
  const onlyExcluding = set.every((filter) =>
    Object.entries(conditions).every(
      ([name, condition]) =>
        excluding.has(name) || condition(filter) === undefined,
    ),
  );
  if (onlyExcluding) {
    for (const filter of set)
      for (const row of leftOut(rows, filter)) expired.add(row);
    if (expired.size === 0) return { ids: undefined, survivors: rows.size };
    return {
      ids: { mode: "except", ids: idsOf([...expired]) },
      survivors: rows.size - expired.size,
    };
  }
  const found: Row[] = [];
  for (const row of candidatesOf(rows, set))
    if (!expired.has(row) && holds(row)) found.push(row);
  return {
    ids: { mode: "only", ids: idsOf(found) },
    survivors: found.length,
  };
}
