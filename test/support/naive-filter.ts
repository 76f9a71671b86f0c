import type { Filter } from "#index/filter";
import type { Row } from "#index/gallery-rows";

/** What a filter looks at. */
export type FilteredFields = Pick<
  Row,
  | "entryId"
  | "identity"
  | "cameraId"
  | "trackId"
  | "capturedAtUs"
  | "attributes"
>;

/** Whether an entry passes a filter, field by field as the API says it: a missing field is different from every value. */
export function holds(row: FilteredFields, filter: Filter): boolean {
  const isIn = (value: string, list: readonly string[] | undefined) =>
    list === undefined || list.length === 0 || list.includes(value);
  const isNotIn = (value: string, list: readonly string[] | undefined) =>
    list === undefined || !list.includes(value);
  const { captured, identified = "either", attributes = [], notBoth } = filter;
  const { startUs, endUs } = captured ?? {};
  const time = row.capturedAtUs;
  return (
    isIn(row.cameraId, filter.cameraIn) &&
    isNotIn(row.cameraId, filter.cameraNotIn) &&
    isIn(row.identity, filter.identityIn) &&
    isNotIn(row.identity, filter.identityNotIn) &&
    isIn(row.trackId, filter.trackIn) &&
    isNotIn(row.entryId, filter.entryNotIn) &&
    (startUs === undefined || (time !== undefined && time >= startUs)) &&
    (endUs === undefined || (time !== undefined && time < endUs)) &&
    (identified !== "present" || row.identity !== "") &&
    (identified !== "absent" || row.identity === "") &&
    attributes.every(({ key, anyOf = [], noneOf = [] }) => {
      const value = Object.hasOwn(row.attributes, key)
        ? row.attributes[key]
        : undefined;
      return anyOf.length > 0
        ? value !== undefined && anyOf.includes(value)
        : value === undefined || !noneOf.includes(value);
    }) &&
    (notBoth === undefined ||
      row.identity !== notBoth.identity ||
      row.cameraId !== notBoth.cameraId)
  );
}
