import { FilterEmptyError } from "./errors.js";
import { hasConditions } from "./filter-walk.js";
import type { Row } from "./gallery-rows.js";
import type { EntryChanges, EntrySelector } from "./gallery-types.js";

/** A delete or an update is never of everything. @throws {FilterEmptyError} a filter without any condition */
export function requireConditions(
  gallery: string,
  selector: EntrySelector,
): void {
  if ("filter" in selector && !hasConditions(selector.filter))
    throw new FilterEmptyError(gallery);
}

/** The fields of an entry that changes give new values. */
export function updatedFields(
  row: Pick<Row, "attributes">,
  { attributes, ...fields }: EntryChanges,
): Partial<Row> {
  const { capturedAtUs, expiresAtUs, ...texts } = fields;
  return {
    ...texts,
    ...(capturedAtUs === undefined
      ? {}
      : { capturedAtUs: capturedAtUs ?? undefined }),
    ...(expiresAtUs === undefined
      ? {}
      : { expiresAtUs: expiresAtUs ?? undefined }),
    ...(attributes === undefined
      ? {}
      : { attributes: updatedAttributes(row.attributes, attributes) }),
  };
}

/** Whether an entry would have more attributes than the changes allow. */
export function isOverfull(
  { attributes: present }: Pick<Row, "attributes">,
  { attributes }: EntryChanges,
): boolean {
  return (
    attributes !== undefined &&
    Object.keys(updatedAttributes(present, attributes)).length >
      attributes.maximum
  );
}

function updatedAttributes(
  present: Readonly<Record<string, string>>,
  { replace, set = {} }: NonNullable<EntryChanges["attributes"]>,
): Readonly<Record<string, string>> {
  const attributes = { ...(replace ?? present) };
  for (const [key, value] of Object.entries(set))
    if (value === null) delete attributes[key];
    else attributes[key] = value;
  return attributes;
}
