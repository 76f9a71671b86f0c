import { attributeKey, controlCharacters, idBytes } from "#index/entry-rules";

import { FieldInvalidError, type Range } from "./errors.js";
import type { Duration__Output } from "./generated/google/protobuf/Duration.js";
import type { Timestamp__Output } from "./generated/google/protobuf/Timestamp.js";

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Microseconds from here on are no longer whole in a double; the year 2255. */
const MAX_SECONDS = 9_007_199_254;

/** Whether a gallery, model or memory can be called that. */
export function isName(value: string): boolean {
  return NAME.test(value);
}

/** A gallery's, model's or memory's name. @throws {FieldInvalidError} */
export function requireName(value: string, field: string): string {
  if (isName(value)) return value;
  throw new FieldInvalidError(field, value, "a name like [a-z0-9][a-z0-9._-]*");
}

/** An id of 1 to 128 bytes. @throws {FieldInvalidError} */
export function requireId(value: string, field: string): string {
  if (value === "")
    throw new FieldInvalidError(field, value, "1 to 128 bytes of UTF-8");
  return optionalId(value, field);
}

/** An id, or empty. @throws {FieldInvalidError} over 128 bytes, or control characters */
export function optionalId(value: string, field: string): string {
  const bytes = Buffer.byteLength(value);
  if (bytes <= idBytes && !controlCharacters.test(value)) return value;
  throw new FieldInvalidError(
    field,
    bytes > idBytes ? `${bytes} bytes` : "text with control characters",
    "at most 128 bytes of UTF-8 without control characters",
  );
}

/** A whole number; 0 is the default where there is one. @throws {FieldInvalidError} */
export function wholeIn(
  value: number,
  field: string,
  range: Range,
  byDefault?: number,
): number {
  if (value === 0 && byDefault !== undefined) return byDefault;
  if (value >= range.minimum && value <= range.maximum) return value;
  throw new FieldInvalidError(
    field,
    value,
    `a whole number from ${range.minimum} to ${range.maximum}`,
    range,
  );
}

/** A finite number in a range. @throws {FieldInvalidError} */
export function numberIn(value: number, field: string, range: Range): number {
  if (value >= range.minimum && value <= range.maximum) return value;
  throw new FieldInvalidError(
    field,
    value,
    `a number from ${range.minimum} to ${range.maximum}`,
    range,
  );
}

/** `min_sequence`; what no sequence can reach stays above every one. */
export function sequenceFrom(value: string): number {
  return Math.min(Number(value), Number.MAX_SAFE_INTEGER);
}

/**
 * A 64-bit count as a number.
 * @throws {FieldInvalidError} beyond 2^53
 */
export function countFrom(value: string, field: string): number {
  const count = Number(value);
  if (Number.isSafeInteger(count) && count >= 0) return count;
  throw new FieldInvalidError(field, value, "a number up to 2^53");
}

/**
 * One of ours for an enum's value.
 *
 * @param words  by the enum's value without its prefix; `UNSPECIFIED` is the default
 * @throws {FieldInvalidError} a value this server does not know
 */
export function wordFrom<T>(
  value: string | number,
  field: string,
  prefix: string,
  words: Readonly<Record<string, T>>,
): T {
  const word =
    typeof value === "string" && value.startsWith(`${prefix}_`)
      ? value.slice(prefix.length + 1)
      : "";
  if (Object.hasOwn(words, word)) return words[word];
  const names = Object.keys(words).filter((name) => name !== "UNSPECIFIED");
  throw new FieldInvalidError(field, value, names.join(", "));
}

/** Microseconds since 1970. @throws {FieldInvalidError} before 1970, after 2255, or broken nanoseconds */
export function microseconds(
  value: Timestamp__Output | null,
  field: string,
): number | undefined {
  if (value === null) return undefined;
  const seconds = Number(value.seconds);
  const isRight =
    seconds >= 0 &&
    seconds < MAX_SECONDS &&
    value.nanos >= 0 &&
    value.nanos < 1e9;
  if (isRight) return seconds * 1e6 + Math.floor(value.nanos / 1000);
  throw new FieldInvalidError(
    field,
    `${value.seconds} s, ${value.nanos} ns`,
    "a time from 1970 to 2255",
  );
}

/** A google.protobuf.Timestamp of microseconds since 1970. */
export function timestamp(us: number | undefined): {
  readonly seconds: string;
  readonly nanos: number;
} | null {
  if (us === undefined) return null;
  const seconds = Math.floor(us / 1e6);
  return {
    seconds: String(seconds),
    nanos: Math.round(us - seconds * 1e6) * 1000,
  };
}

/** Milliseconds of a duration in a range. @throws {FieldInvalidError} */
export function milliseconds(
  value: Duration__Output | null,
  field: string,
  range: Range,
): number | undefined {
  if (value === null) return undefined;
  const ms = Math.round(Number(value.seconds) * 1000 + value.nanos / 1e6);
  if (ms >= range.minimum && ms <= range.maximum) return ms;
  throw new FieldInvalidError(
    field,
    `${value.seconds} s, ${value.nanos} ns`,
    `a time from ${range.minimum} to ${range.maximum} ms`,
    range,
  );
}

/** A google.protobuf.Duration of milliseconds. */
export function duration(ms: number | undefined): {
  readonly seconds: string;
  readonly nanos: number;
} | null {
  if (ms === undefined) return null;
  const seconds = Math.floor(ms / 1000);
  return {
    seconds: String(seconds),
    nanos: Math.round(ms - seconds * 1000) * 1e6,
  };
}

/** Attributes of an entry: keys of a fixed form, values of any text. @throws {FieldInvalidError} */
export function attributesFrom(
  value: Readonly<Record<string, string>>,
  field: string,
  maximum: number,
): Readonly<Record<string, string>> {
  const entries = Object.entries(value);
  requireCount(entries.length, field, maximum);
  for (const [key, text] of entries) {
    if (!attributeKey.test(key))
      throw new FieldInvalidError(field, key, "keys like [a-z][a-z0-9_]*");
    const bytes = Buffer.byteLength(text);
    if (bytes > idBytes)
      throw new FieldInvalidError(
        `${field}[${key}]`,
        `${bytes} bytes`,
        `at most ${idBytes} bytes of UTF-8`,
      );
  }
  return value;
}

/** Tags of a gallery: keys and values are their operators' own. @throws {FieldInvalidError} */
export function tagsFrom(
  value: Readonly<Record<string, string>>,
  field: string,
  maximum: number,
): Readonly<Record<string, string>> {
  const entries = Object.entries(value);
  requireCount(entries.length, field, maximum);
  for (const [key, text] of entries) {
    requireId(key, field);
    optionalId(text, `${field}[${key}]`);
  }
  return value;
}

function requireCount(count: number, field: string, maximum: number): void {
  if (count > maximum)
    throw new FieldInvalidError(field, count, `at most ${maximum}`, {
      minimum: 0,
      maximum,
    });
}

/** A request id, or undefined where there is none. @throws {FieldInvalidError} no UUID */
export function requestIdFrom(value: string): string | undefined {
  if (value === "") return undefined;
  if (UUID.test(value)) return value.toLowerCase();
  throw new FieldInvalidError("request_id", value, "a UUID");
}
