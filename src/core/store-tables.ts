import type { Database } from "lmdb";

import { readingFailure } from "./store-disk.js";
import type { StoreEnvironment } from "./store-environment.js";
import { StoreCorruptError } from "./store-errors.js";
import { keyOf, rangeOf, type KeyRange, type StoreKey } from "./store-keys.js";
import { decodeValue, unseal, type ValueEncoding } from "./store-values.js";

/**
 * One named table of the store: reads see the last committed write.
 *
 * Every read throws StoreCorruptError where the file is damaged there, if only in a bit of a value; and
 * StoreReadOnlyError while a commit that failed has not been taken back.
 */
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
  readonly #folder: string;
  readonly #environment: () => StoreEnvironment;

  /**
   * @param folder       of the store, for what failures say
   * @param environment  the present one; throws where the store is closed
   */
  constructor(
    name: string,
    encoding: ValueEncoding,
    folder: string,
    environment: () => StoreEnvironment,
  ) {
    this.name = name;
    this.#encoding = encoding;
    this.#folder = folder;
    this.#environment = environment;
  }

  get(key: StoreKey): Value | undefined {
    return this.#read((database) => {
      const bytes = database.get(keyOf(key));
      return bytes === undefined ? undefined : this.#valueOf(key, bytes);
    });
  }

  has(key: StoreKey): boolean {
    return this.#read((database) => database.doesExist(keyOf(key)));
  }

  *range(range: KeyRange = {}): Iterable<{ key: StoreKey; value: Value }> {
    const environment = this.#environment();
    const database = environment.database(this.name);
    const sought = rangeOf(range);
    try {
      for (const { key, value } of environment.iterate(() =>
        database.getRange(sought),
      ))
        yield {
          key: key as StoreKey,
          value: this.#valueOf(key as StoreKey, value),
        };
    } catch (error) {
      throw readingFailure(this.#folder, error);
    }
  }

  count(range: KeyRange = {}): number {
    return this.#read((database) => database.getKeysCount(rangeOf(range)));
  }

  #valueOf(key: StoreKey, bytes: Buffer): Value {
    const value = unseal(this.name, key, bytes);
    if (value === undefined)
      throw new StoreCorruptError(
        this.#folder,
        `the value of ${String(key)} in table ${this.name} is damaged`,
      );
    return decodeValue(this.#encoding, value) as Value;
  }

  #read<Result>(look: (database: Database<Buffer>) => Result): Result {
    try {
      return look(this.#environment().database(this.name));
    } catch (error) {
      throw readingFailure(this.#folder, error);
    }
  }
}
