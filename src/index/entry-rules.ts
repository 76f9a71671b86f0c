/** Most bytes of an id and of an attribute's value, UTF-8. */
export const idBytes = 128;

/** Form of an attribute's key. */
export const attributeKey = /^[a-z][a-z0-9_]{0,31}$/;

/** Characters that no id has. */
export const controlCharacters = /[\u0000-\u001f\u007f-\u009f]/;

/** Fields of an entry as a file has them: anything may be in them. */
export type UncheckedEntry = Readonly<Record<string, unknown>>;

const ids = ["entryId", "identity", "cameraId", "trackId"] as const;
const times = ["capturedAtUs", "expiresAtUs"] as const;

/**
 * What is wrong with the fields of an entry that did not come through the server, which has the same rules.
 *
 * @returns undefined where nothing is
 */
export function entryProblem(entry: UncheckedEntry): string | undefined {
  for (const name of ids) {
    const value = entry[name];
    if (value === undefined && name !== "entryId") continue;
    if (typeof value !== "string") return `${name} is no text`;
    if (value === "" && name === "entryId") return "entryId is empty";
    if (controlCharacters.test(value))
      return `${name} has control characters in it`;
    if (Buffer.byteLength(value) > idBytes)
      return `${name} has ${Buffer.byteLength(value)} bytes, at most ${idBytes} may be`;
  }
  for (const name of times) {
    const value = entry[name];
    if (value === undefined) continue;
    if (!Number.isSafeInteger(value) || Number(value) < 0)
      return `${name} is ${String(value)}, expected microseconds since 1970`;
  }
  return attributesProblem(entry["attributes"]);
}

function attributesProblem(attributes: unknown): string | undefined {
  if (attributes === undefined) return undefined;
  if (typeof attributes !== "object" || attributes === null)
    return "attributes are no object";
  for (const [key, value] of Object.entries(attributes)) {
    if (!attributeKey.test(key))
      return `attribute "${key}": keys are like [a-z][a-z0-9_]*`;
    if (typeof value !== "string" || Buffer.byteLength(value) > idBytes)
      return `attribute "${key}" is no text of at most ${idBytes} bytes`;
  }
  return undefined;
}
