/** Whether a value that was read can have fields. */
export function isObject(
  value: unknown,
): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** Whether it is a text, an empty one included. */
export function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** Whether it is a text of one character or more. */
export function isName(value: unknown): boolean {
  return isText(value) && value !== "";
}

/** Whether each of its fields is a text. */
export function isTexts(value: unknown): boolean {
  if (!isObject(value)) return false;
  for (const name in value) if (!isText(value[name])) return false;
  return true;
}

/** Whether it is a whole number, 0 or more. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** Whether it is a whole number, 1 or more. */
export function isPositive(value: unknown): boolean {
  return isCount(value) && value > 0;
}

/** Whether it is a `GalleryRecord.modelPolicy`. */
export function isModelPolicy(value: unknown): boolean {
  return value === "pinned" || value === "follow-active";
}

/** Whether it is a `GalleryRecord.cropRetention`. */
export function isCropRetention(value: unknown): boolean {
  return value === "none" || value === "keep";
}
