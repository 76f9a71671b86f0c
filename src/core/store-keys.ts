import type { Key } from "lmdb";

/** A key of a table: compared part by part, numbers before strings; at most 1,900 bytes in all. */
export type StoreKey = string | number | readonly (string | number)[];

/** A range of keys, in key order. */
export interface KeyRange {
  /** Inclusive; open where left out. */
  readonly start?: StoreKey;
  /** Exclusive; open where left out. */
  readonly end?: StoreKey;
  readonly limit?: number;
}

/** lmdb only reads a key; its type does not say so. */
export function keyOf(key: StoreKey): Key {
  return key as Key;
}

/** The range as lmdb takes it. */
export function rangeOf(range: KeyRange): {
  start?: Key;
  end?: Key;
  limit?: number;
} {
  return {
    ...(range.start === undefined ? {} : { start: keyOf(range.start) }),
    ...(range.end === undefined ? {} : { end: keyOf(range.end) }),
    ...(range.limit === undefined ? {} : { limit: range.limit }),
  };
}
