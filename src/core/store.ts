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

/** How a table's values are encoded: raw bytes, or MessagePack of plain data (typed arrays and bytes included). */
export type ValueEncoding = "bytes" | "data";

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

/** Collects the writes of one transaction; nothing is written until the action has returned. */
export interface Writer {
  put<Value>(table: Table<Value>, key: StoreKey, value: Value): void;
  remove<Value>(table: Table<Value>, key: StoreKey): void;
  /** Removes every key of a range. */
  removeRange<Value>(table: Table<Value>, range: KeyRange): void;
}

/** Settings of a store. */
export interface StoreOptions {
  /** Writes are refused with less than this free on the disk. Default 256 MiB. */
  readonly minFreeBytes?: number;
  /** Upper limit of the store's size. Default: none, it grows with the disk. */
  readonly maxSizeBytes?: number;
  /** Free bytes of the disk under a folder; a double for tests. Default: statfs. */
  readonly freeBytes?: (folder: string) => Promise<number>;
}

/** What the metrics and GetServerInfo say about the store. */
export interface StoreStatus {
  readonly sizeBytes: number;
  readonly freeBytes: number;
  readonly capacityBytes: number;
  readonly writable: boolean;
}

/** The LMDB environment of one data folder (`<folder>/store/`), owned by one process at a time. */
export declare class Store {
  private constructor();
  readonly folder: string;
  /**
   * Opens or makes the store and takes the folder's lock.
   *
   * @throws {StoreLockedError} another process has the folder
   * @throws {StoreReadOnlyError} the folder cannot be written
   * @throws {StoreCorruptError} the file is no LMDB environment
   */
  static open(folder: string, options?: StoreOptions): Promise<Store>;
  /** The table of that name, made if it is not there. The same name gives the same table. */
  table(name: string, encoding: "bytes"): Table<Uint8Array>;
  table<Value>(name: string, encoding: "data"): Table<Value>;
  /**
   * One transaction: all of it is durable or none of it.
   *
   * @param action  collects the writes; synchronous; if it throws, nothing is written and the error passes on
   * @returns       what the action returned, after the transaction has been flushed to disk
   * @throws {StoreFullError} too little space; @throws {StoreReadOnlyError}; @throws {ClosedError}
   */
  write<Result>(action: (writer: Writer) => Result): Promise<Result>;
  status(): Promise<StoreStatus>;
  /** Waits for writes under way, releases the lock; idempotent. */
  close(): Promise<void>;
}
