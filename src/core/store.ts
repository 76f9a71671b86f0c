import { existsSync } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { join } from "node:path";

import {
  assert,
  ClosedError,
  ConfigError,
  DiskFailedError,
  DiskFullError,
} from "./errors.js";
import { makeOwnFolder, syncFile, syncFolder, writeFailure } from "./files.js";
import type { FolderLock } from "./folder-lock.js";
import {
  checkFile,
  failedDisk,
  freeBytesReader,
  lockedFolder,
  noteMade,
  openingBytes,
  openingFailure,
  panicked,
  removeCopies,
} from "./store-disk.js";
import { StoreFullError, StoreReadOnlyError } from "./store-errors.js";
import { StorePlace } from "./store-place.js";
import { StoreTable, type Table, type Writer } from "./store-tables.js";
import { StoreTransaction } from "./store-transaction.js";
import {
  formatOf,
  refuseUpgrade,
  storeFormat,
  upgradedCopy,
} from "./store-upgrade.js";
import { encodeValue, labelTable, type ValueEncoding } from "./store-values.js";
import { TransactionFailedError } from "./store-writer.js";

export type { KeyRange, StoreKey } from "./store-keys.js";
export type { Table, Writer } from "./store-tables.js";

/** Settings of a store. */
export interface StoreOptions {
  /** Writes are refused with less than this free on the disk. Default 256 MiB. */
  readonly minFreeBytes?: number;
  /** Free bytes of the disk under a folder; a double for tests. Default: statfs. */
  readonly freeBytes?: (folder: string) => Promise<number>;
  /** Told how long each transaction took from its writes to its flush, ms. */
  readonly onCommit?: (durationMs: number) => void;
  /** Told how many values of a store of an earlier format have been rewritten, of how many. */
  readonly onUpgraded?: (doneCount: number, totalCount: number) => void;
}

/** What the metrics and GetServerInfo say about the store. */
export interface StoreStatus {
  readonly sizeBytes: number;
  readonly freeBytes: number;
  readonly capacityBytes: number;
  readonly writable: boolean;
}

/** The LMDB environment of one data folder (`<folder>/store/`), owned by one process at a time. */
export class Store {
  readonly folder: string;
  readonly #place: StorePlace;
  readonly #lock: FolderLock;
  readonly #minFreeBytes: number;
  readonly #freeBytes: (folder: string) => Promise<number>;
  readonly #onCommit: (durationMs: number) => void;
  readonly #tables = new Map<
    string,
    { encoding: ValueEncoding; table: StoreTable<unknown> }
  >();
  readonly #underWay = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;
  /** Whether the file says of what format it is: the first transaction writes it. */
  #isLabelled = false;

  private constructor(folder: string, lock: FolderLock, options: StoreOptions) {
    this.folder = folder;
    this.#place = new StorePlace(folder, () =>
      Promise.allSettled([...this.#underWay]),
    );
    this.#lock = lock;
    this.#minFreeBytes = options.minFreeBytes ?? 256 * 1024 * 1024;
    this.#freeBytes = options.freeBytes ?? freeBytesReader();
    this.#onCommit = options.onCommit ?? (() => undefined);
  }

  /**
   * Opens or makes the store and takes the folder's lock. One of an earlier format is copied into the present one.
   *
   * @throws {StoreLockedError} another process has the folder
   * @throws {StoreReadOnlyError} the folder cannot be written
   * @throws {ConfigError} something that is no folder stands there
   * @throws {StoreFullError} not even an empty store fits, or no copy of one of an earlier format
   * @throws {StoreCorruptError} the file is no LMDB environment, or its pages are damaged
   * @throws {FormatNewerError} a later version has written it
   */
  static async open(
    folder: string,
    options: StoreOptions = {},
  ): Promise<Store> {
    const path = join(folder, "store");
    const lock = await lockedFolder(folder);
    try {
      const free = await (options.freeBytes ?? freeBytesReader())(folder);
      if (free < openingBytes)
        throw new StoreFullError(folder, free, openingBytes);
      await checkFile(folder);
      await removeCopies(path);
      const store = new Store(folder, lock, options);
      try {
        // Made now: a disk that takes no writes takes no new table either.
        store.table("probes", "data");
        await store.#settleFormat(free, options.onUpgraded);
        await noteMade(path);
      } catch (error) {
        await store.#place.close().catch(() => undefined);
        throw error;
      }
      return store;
    } catch (error) {
      lock.release();
      throw openingFailure(folder, error);
    }
  }

  /** @throws {FormatNewerError} @throws {StoreFullError} @throws {StoreCorruptError} */
  async #settleFormat(
    freeBytes: number,
    onUpgraded: StoreOptions["onUpgraded"] = () => undefined,
  ): Promise<void> {
    const { root } = this.#place.environment;
    const format = formatOf(this.folder, root);
    if (format === 1) {
      await refuseUpgrade(this.folder, root, freeBytes);
      await this.#place.replace((copy) => upgradedCopy(root, copy, onUpgraded));
    }
    this.#isLabelled = format !== undefined;
  }

  /** The table of that name, made if it is not there. The same name gives the same table. */
  table(name: string, encoding: "bytes"): Table<Uint8Array>;
  table<Value>(name: string, encoding: "data"): Table<Value>;
  table(name: string, encoding: ValueEncoding): Table<unknown> {
    this.#assertOpen();
    const known = this.#tables.get(name);
    if (known !== undefined) {
      assert(known.encoding === encoding, `table ${name} is ${known.encoding}`);
      return known.table;
    }
    const table = new StoreTable(name, encoding, this.folder, () => {
      this.#assertOpen();
      return this.#place.environment;
    });
    // Made now, not when it is first written: a disk that takes no writes takes no new table either.
    try {
      this.#place.environment.database(name);
    } catch (error) {
      throw openingFailure(this.folder, error);
    }
    this.#tables.set(name, { encoding, table });
    return table;
  }

  /**
   * One transaction: all of it is durable or none of it.
   *
   * @param action  collects the writes; if it throws, nothing is written and the error passes on
   * @returns       what the action returned, after the transaction has been flushed to disk
   * @throws {StoreFullError} too little space
   * @throws {StoreReadOnlyError} the disk takes no writes
   * @throws {ClosedError}
   */
  async write<Result>(
    action: (writer: Writer) => Result | Promise<Result>,
  ): Promise<Result> {
    this.#assertOpen();
    while (!this.#place.isReady) await this.#settle();
    const writing = this.#write(action);
    this.#underWay.add(writing);
    try {
      return await writing;
    } catch (error) {
      this.#underWay.delete(writing);
      // The caller goes on with a store that can be read, and written where the disk lets it.
      await this.#settleAll().catch(() => undefined);
      throw error;
    } finally {
      this.#underWay.delete(writing);
    }
  }

  async #write<Result>(
    action: (writer: Writer) => Result | Promise<Result>,
  ): Promise<Result> {
    const free = await this.#freeBytes(this.folder);
    if (free < this.#minFreeBytes)
      throw new StoreFullError(this.folder, free, this.#minFreeBytes);
    const transaction = new StoreTransaction();
    const writer = this.#writer(transaction);
    const result = await action(writer);
    if (transaction.isEmpty) return result;
    if (!this.#isLabelled)
      writer.put(this.table<number>(labelTable, "data"), "store", storeFormat);
    const started = performance.now();
    try {
      await this.#place.environment.commit(transaction);
    } catch (error) {
      throw error instanceof TransactionFailedError
        ? await this.#failureOf(error)
        : error;
    }
    this.#place.isWritable = true;
    this.#isLabelled = true;
    this.#onCommit(performance.now() - started);
    return result;
  }

  /** Tries whether the disk takes writes again, where it last took none; `status` says what came of it. */
  async probe(): Promise<void> {
    if (this.#place.isWritable) return;
    const probes = this.table<number>("probes", "data");
    try {
      await this.write((writer) => {
        writer.put(probes, "last", (probes.get("last") ?? 0) + 1);
      });
    } catch (error) {
      if (error instanceof StoreReadOnlyError) return;
      if (error instanceof StoreFullError) return;
      throw error;
    }
  }

  /**
   * Writes a copy of every table, as they were at one instant, into `<folder>/store/`: a data folder of its own.
   *
   * Runs in a thread of LMDB's while writes go on; free pages are left out, and what was removed with them.
   * Resolves when the copy is flushed.
   *
   * @throws {ConfigError} there is a store already
   * @throws {DiskFullError} there is no room for it
   */
  async copyTo(folder: string): Promise<void> {
    this.#assertOpen();
    const path = join(folder, "store");
    await makeOwnFolder(path);
    const file = join(path, "data.mdb");
    if (existsSync(file))
      throw new ConfigError("folder of the copy", file, "no store there");
    const copying = this.#place.environment.root.backup(path, true);
    this.#underWay.add(copying);
    try {
      await copying;
      await syncFile(file);
      await syncFolder(path);
    } catch (error) {
      const message = String(error);
      if (/no space/i.test(message))
        throw new DiskFullError(file, "ENOSPC", { cause: error });
      if (failedDisk.test(message) || panicked.test(message))
        throw new DiskFailedError(file, message, { cause: error });
      throw writeFailure(error, file);
    } finally {
      this.#underWay.delete(copying);
    }
  }

  /**
   * Leaves out of the file what has been removed: afterwards none of its bytes are there.
   *
   * A compacted copy takes the file's place by a rename, which is the commit; before it the old file is whole,
   * after it the new one. Reads go on, writes wait for as long as the copy takes.
   *
   * @throws {DiskFullError} there is no room for the copy: everything is as it was
   */
  async compact(): Promise<void> {
    this.#assertOpen();
    while (!this.#place.isReady) await this.#settle();
    await this.#place.replace((copy) => this.copyTo(copy));
  }

  /** Waits until everything is right again, or cannot be. What then begins asks whether it is in the same turn. */
  async #settleAll(): Promise<void> {
    while (!this.#place.isReady) await this.#settle();
  }

  /** @throws {StoreFullError} @throws {StoreReadOnlyError} @throws {ClosedError} */
  async #settle(): Promise<void> {
    await this.#place.settle();
    this.#assertOpen();
  }

  /** Sizes for metrics; asks the disk. */
  async status(): Promise<StoreStatus> {
    this.#assertOpen();
    const disk = await statfs(this.folder);
    const file = await stat(join(this.folder, "store", "data.mdb"));
    const freeBytes = await this.#freeBytes(this.folder);
    return {
      sizeBytes: file.size,
      freeBytes,
      capacityBytes: disk.blocks * disk.bsize,
      writable: this.#place.isWritable && freeBytes >= this.#minFreeBytes,
    };
  }

  /** Waits for writes under way, releases the lock; idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#place.close();
    this.#lock.release();
  }

  #writer(transaction: StoreTransaction): Writer {
    return {
      put: ({ name }, key, value) => {
        const known = this.#tables.get(name);
        assert(known !== undefined, `table ${name} is of another store`);
        transaction.put(name, key, encodeValue(known.encoding, value));
      },
      remove: (table, key) => transaction.remove(table.name, key),
      removeRange: (table, range) => transaction.removeRange(table.name, range),
    };
  }

  async #failureOf(cause: TransactionFailedError): Promise<unknown> {
    const { failure, remains } = cause;
    // Nothing of LMDB's or the system's: what was handed to it.
    if (remains === "nothing" && failure.code === undefined) return cause;
    const free = await this.#freeBytes(this.folder).catch(() => 0);
    this.#place.doubt(remains);
    // LMDB answers a short write, which is how a full disk shows first, with EIO.
    if (
      /no space/i.test(failure.message) ||
      free < Math.max(openingBytes, this.#minFreeBytes)
    )
      return new StoreFullError(this.folder, free, this.#minFreeBytes, {
        cause,
      });
    return new StoreReadOnlyError(this.folder, failure.message, { cause });
  }

  #assertOpen(): void {
    if (this.#closed !== undefined)
      throw new ClosedError(`store ${this.folder}`);
  }
}
