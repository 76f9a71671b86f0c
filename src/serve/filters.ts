import type { Filter, Presence, TimeRange } from "#index/filter";
import { FieldInvalidError } from "./errors.js";
import { microseconds, requireId, wordFrom } from "./fields.js";
import type { Filter__Output } from "./generated/reid/v1/Filter.js";
import type { TimeRange__Output } from "./generated/reid/v1/TimeRange.js";

type ListField =
  | "cameraIn"
  | "cameraNotIn"
  | "identityIn"
  | "identityNotIn"
  | "trackIn"
  | "entryNotIn";

const lists: Readonly<Record<ListField, string>> = {
  cameraIn: "camera_in",
  cameraNotIn: "camera_not_in",
  identityIn: "identity_in",
  identityNotIn: "identity_not_in",
  trackIn: "track_in",
  entryNotIn: "entry_not_in",
};

/** Counts the values in all lists of a request against its limit. */
export class FilterBudget {
  readonly #maximum: number;
  #used = 0;

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** @throws {FieldInvalidError} more values than the limit */
  spend(values: number, field: string): void {
    this.#used += values;
    if (this.#used > this.#maximum)
      throw new FieldInvalidError(
        field,
        `${this.#used} values`,
        `at most ${this.#maximum} values in all filters of a request`,
      );
  }
}

/**
 * Parses a filter; undefined where there is none.
 *
 * @throws {FieldInvalidError}
 */
export function filterFrom(
  filter: Filter__Output | null,
  field: string,
  budget: FilterBudget,
): Filter | undefined {
  if (filter === null) return undefined;
  const parsed: { -readonly [Key in keyof Filter]: Filter[Key] } = {};
  for (const [key, name] of Object.entries(lists)) {
    const list = filter[key as ListField];
    if (list.length === 0) continue;
    budget.spend(list.length, `${field}.${name}`);
    parsed[key as ListField] = list.map((id, i) =>
      requireId(id, `${field}.${name}[${i}]`),
    );
  }
  const captured = timeRangeFrom(filter.captured, `${field}.captured`);
  if (captured !== undefined) parsed.captured = captured;
  parsed.identified = wordFrom<Presence>(
    filter.identified,
    `${field}.identified`,
    "PRESENCE",
    { UNSPECIFIED: "either", PRESENT: "present", ABSENT: "absent" },
  );
  if (filter.attributes.length > 0)
    parsed.attributes = filter.attributes.map(({ key, anyOf, noneOf }, i) => {
      const path = `${field}.attributes[${i}]`;
      requireId(key, `${path}.key`);
      budget.spend(anyOf.length + noneOf.length, path);
      if (anyOf.length > 0 === noneOf.length > 0)
        throw new FieldInvalidError(
          path,
          anyOf.length > 0 ? "any_of and none_of" : "neither list",
          "exactly one of any_of and none_of",
        );
      return anyOf.length > 0 ? { key, anyOf } : { key, noneOf };
    });
  if (filter.notBoth !== null) {
    const { identity, cameraId } = filter.notBoth;
    parsed.notBoth = {
      identity: requireId(identity, `${field}.not_both.identity`),
      cameraId: requireId(cameraId, `${field}.not_both.camera_id`),
    };
  }
  return parsed;
}

function timeRangeFrom(
  range: TimeRange__Output | null,
  field: string,
): TimeRange | undefined {
  if (range === null) return undefined;
  const startUs = microseconds(range.start, `${field}.start`);
  const endUs = microseconds(range.end, `${field}.end`);
  return {
    ...(startUs === undefined ? {} : { startUs }),
    ...(endUs === undefined ? {} : { endUs }),
  };
}
