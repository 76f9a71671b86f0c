import type { SqlValue } from "#core/postgres";

import type { AttributeCondition, Filter } from "./filter.js";
import { noTime } from "./milvus.js";
import { storedText } from "./scaled-text.js";

/** A condition of SQL whose values are numbered from a place that the statement chooses. */
export interface SqlCondition {
  /** `TRUE` where nothing is asked for. */
  readonly text: string;
  readonly values: readonly SqlValue[];
}

/** What one field of a filter asks for, in either language; a missing text is '' in both. */
interface Terms {
  /** Takes a value, gives its place in the statement. */
  readonly bind: (value: SqlValue) => string;
}

type Translation = {
  readonly sql: (filter: Filter, terms: Terms) => readonly string[];
  readonly milvus: (filter: Filter) => readonly string[];
};

const none: readonly string[] = [];

/** A literal of Milvus' expression language: its escapes are those of JSON. */
function literal(value: string): string {
  return JSON.stringify(value);
}

function list(values: readonly string[]): string {
  return `[${values.map(literal).join(", ")}]`;
}

/** A list that has to hold the field's value, or must not. */
function listed(
  column: string,
  valuesOf: (filter: Filter) => readonly string[] | undefined,
  isWanted: boolean,
): Translation {
  const not = isWanted ? "" : "NOT ";
  return {
    sql: (filter, { bind }) => {
      const values = valuesOf(filter) ?? [];
      return values.length === 0
        ? none
        : [`${not}(${column} = ANY (${bind(values)}::text[]))`];
    },
    milvus: (filter) => {
      const values = valuesOf(filter) ?? [];
      return values.length === 0
        ? none
        : [`${column} ${isWanted ? "in" : "not in"} ${list(values)}`];
    },
  };
}

function wanted({ anyOf = [], noneOf = [] }: AttributeCondition): {
  readonly values: readonly string[];
  readonly isWanted: boolean;
} {
  return anyOf.length > 0
    ? { values: anyOf.map(storedText), isWanted: true }
    : { values: noneOf.map(storedText), isWanted: false };
}

/** One row for each field of a filter. */
const translations: Readonly<Record<keyof Filter, Translation>> = {
  cameraIn: listed("camera_id", ({ cameraIn }) => cameraIn, true),
  cameraNotIn: listed("camera_id", ({ cameraNotIn }) => cameraNotIn, false),
  identityIn: listed("identity", ({ identityIn }) => identityIn, true),
  identityNotIn: listed(
    "identity",
    ({ identityNotIn }) => identityNotIn,
    false,
  ),
  trackIn: listed("track_id", ({ trackIn }) => trackIn, true),
  entryNotIn: listed("entry_id", ({ entryNotIn }) => entryNotIn, false),
  identified: {
    sql: ({ identified = "either" }) =>
      identified === "either"
        ? none
        : [`identity ${identified === "present" ? "<>" : "="} ''`],
    milvus: ({ identified = "either" }) =>
      identified === "either"
        ? none
        : [`identity ${identified === "present" ? "!=" : "=="} ""`],
  },
  captured: {
    sql: ({ captured = {} }, { bind }) => [
      ...(captured.startUs === undefined
        ? none
        : [`captured_at_us >= ${bind(captured.startUs)}::bigint`]),
      ...(captured.endUs === undefined
        ? none
        : [`captured_at_us < ${bind(captured.endUs)}::bigint`]),
    ],
    milvus: ({ captured = {} }) => {
      const { startUs, endUs } = captured;
      if (startUs === undefined && endUs === undefined) return none;
      return [
        startUs === undefined
          ? `captured_at != ${noTime}`
          : `captured_at >= ${startUs}`,
        ...(endUs === undefined ? none : [`captured_at < ${endUs}`]),
      ];
    },
  },
  attributes: {
    sql: ({ attributes = [] }, { bind }) =>
      attributes.map((condition) => {
        const { values, isWanted } = wanted(condition);
        const value = `attributes ->> ${bind(condition.key)}::text`;
        const holds = `coalesce(${value} = ANY (${bind(values)}::text[]), FALSE)`;
        return isWanted ? holds : `NOT ${holds}`;
      }),
    milvus: ({ attributes = [] }) =>
      attributes.map((condition) => {
        const { values, isWanted } = wanted(condition);
        const holds = `attributes[${literal(condition.key)}] in ${list(values)}`;
        // An entry without the key fails `in`, so it passes its complement.
        return isWanted ? holds : `not (${holds})`;
      }),
  },
  notBoth: {
    sql: ({ notBoth }, { bind }) =>
      notBoth === undefined
        ? none
        : [
            `NOT (identity = ${bind(notBoth.identity)} AND camera_id = ${bind(notBoth.cameraId)})`,
          ],
    milvus: ({ notBoth }) =>
      notBoth === undefined
        ? none
        : [
            `not (identity == ${literal(notBoth.identity)} and camera_id == ${literal(notBoth.cameraId)})`,
          ],
  },
};

function present(filters: readonly (Filter | undefined)[]): readonly Filter[] {
  return filters.filter((filter) => filter !== undefined);
}

/**
 * Filters as a condition on the columns of `entries`: all of them have to hold.
 *
 * @param taken  values that the statement has before it: the first here is `$taken+1`
 */
export function sqlFrom(
  filters: readonly (Filter | undefined)[],
  taken: number,
): SqlCondition {
  const values: SqlValue[] = [];
  const bind = (value: SqlValue): string => {
    values.push(value);
    return `$${taken + values.length}`;
  };
  const terms = present(filters).flatMap((filter) =>
    Object.values(translations).flatMap(({ sql }) => sql(filter, { bind })),
  );
  return { text: terms.length === 0 ? "TRUE" : terms.join(" AND "), values };
}

/** Filters as an expression of Milvus; empty: every row passes. */
export function expressionFrom(
  filters: readonly (Filter | undefined)[],
): string {
  return present(filters)
    .flatMap((filter) =>
      Object.values(translations).flatMap(({ milvus }) => milvus(filter)),
    )
    .map((term) => `(${term})`)
    .join(" and ");
}
