import type { Database } from "lmdb";

import type { StoreEnvironment, ValueEncoding } from "./store-environment.js";
import { keyOf, rangeOf, type KeyRange, type StoreKey } from "./store-keys.js";

/** One named table of the store: reads see the last committed write. */
export interface Table<Value> {
  readonly name: string;
  /** @returns a copy of the value; undefined where the key is not there */
  get(key: StoreKey): Value | undefined;
  has(key: StoreKey): boolean;
  /** In key order; over one consistent view of the table for as long as it is iterated. */
  range(range?: KeyRange): Iterable<{ key: StoreKey; value: Value }>;
  count(range?: KeyRange): number;
}

/** Collects the writes of one transaction; values are copied, and nothing is written until the action is done. */
export interface Writer {
  put<Value>(table: Table<Value>, key: StoreKey, value: Value): void;
  remove<Value>(table: Table<Value>, key: StoreKey): void;
  /** Removes every key of a range that is there when the transaction is made. */
  removeRange<Value>(table: Table<Value>, range: KeyRange): void;
}

/** A table of the environment that the store has at the time. */
export class StoreTable<Value> implements Table<Value> {
  readonly name: string;
  readonly #encoding: ValueEncoding;
  readonly #environment: () => StoreEnvironment;

  /** @param environment  the present one; throws where the store is closed */
  constructor(
    name: string,
    encoding: ValueEncoding,
    environment: () => StoreEnvironment,
  ) {
    this.name = name;
    this.#encoding = encoding;
    this.#environment = environment;
  }

  get(key: StoreKey): Value | undefined {
    return this.#database().get(keyOf(key)) as Value | undefined;
  }

  has(key: StoreKey): boolean {
    return this.#database().doesExist(keyOf(key));
  }

  *range(range: KeyRange = {}): Iterable<{ key: StoreKey; value: Value }> {
    const environment = this.#environment();
    const database = environment.database(this.name, this.#encoding);
    for (const { key, value } of environment.iterate(() =>
      database.getRange(rangeOf(range)),
    ))
      yield { key: key as StoreKey, value: value as Value };
  }

  count(range: KeyRange = {}): number {
    return this.#database().getKeysCount(rangeOf(range));
  }

  #database(): Database {
    return this.#environment().database(this.name, this.#encoding);
  }
}
