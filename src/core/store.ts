import { randomBytes } from "node:crypto";
import { constants, existsSync } from "node:fs";
import {
  copyFile,
  mkdir,
  readdir,
  rename,
  rm,
  stat,
  statfs,
} from "node:fs/promises";
import { join } from "node:path";

import type { Database, Key } from "lmdb";

import {
  assert,
  ClosedError,
  ConfigError,
  DiskFailedError,
  DiskFullError,
  ReidError,
} from "./errors.js";
import { syncFile, syncFolder, writeFailure } from "./files.js";
import { lockFolder, type FolderLock } from "./folder-lock.js";
import {
  checkStoreFile,
  StoreEnvironment,
  type ValueEncoding,
} from "./store-environment.js";
import {
  StoreCorruptError,
  StoreFullError,
  StoreReadOnlyError,
} from "./store-errors.js";

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
  /** Free bytes of the disk under a folder; a double for tests. Default: statfs. */
  readonly freeBytes?: (folder: string) => Promise<number>;
  /** Told how long each transaction took from its writes to its flush, ms. */
  readonly onCommit?: (durationMs: number) => void;
}

/** What the metrics and GetServerInfo say about the store. */
export interface StoreStatus {
  readonly sizeBytes: number;
  readonly freeBytes: number;
  readonly capacityBytes: number;
  readonly writable: boolean;
}

type Operation = (tables: ReadonlyMap<string, Database>) => Promise<unknown>;

/** Free disk below which even opening could end in SIGBUS: LMDB maps its files and then writes to the map. */
const openingBytes = 1 << 20;

/** Folders of compaction beside data.mdb; what a crash leaves of them the next start removes. */
const copyPrefix = "compacting-";

async function removeCopies(path: string): Promise<void> {
  for (const name of await readdir(path))
    if (name.startsWith(copyPrefix))
      await rm(join(path, name), { recursive: true, force: true });
}

/** lmdb only reads a key; its type does not say so. */
function keyOf(key: StoreKey): Key {
  return key as Key;
}

function rangeOf(range: KeyRange): { start?: Key; end?: Key; limit?: number } {
  return {
    ...(range.start === undefined ? {} : { start: keyOf(range.start) }),
    ...(range.end === undefined ? {} : { end: keyOf(range.end) }),
    ...(range.limit === undefined ? {} : { limit: range.limit }),
  };
}

/** How long a disk's free space is taken for what it was, ms; a write takes a few MiB in it. */
const freeForMs = 100;

/** Asks the disk for its free space, not at every one of hundreds of writes a second. */
function freeBytesReader(): (folder: string) => Promise<number> {
  let last: { readonly at: number; readonly bytes: number } | undefined;
  return async (folder) => {
    const now = performance.now();
    if (last !== undefined && now - last.at < freeForMs) return last.bytes;
    const disk = await statfs(folder);
    last = { at: now, bytes: disk.bavail * disk.bsize };
    return last.bytes;
  };
}

/** lmdb rejects with a promise of the cause, which nobody handles unless we do. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !("commitError" in error)) return error;
  try {
    await (error.commitError as Promise<unknown>);
    return error;
  } catch (cause) {
    return cause;
  }
}

/** What lmdb says of EIO and EROFS: its errors have no code of the system's. */
const failedDisk = /input\/output error|read-only file system/i;

/** What opening a store or a table failed of. */
function openingFailure(folder: string, error: unknown): ReidError {
  if (error instanceof StoreFullError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  if (/no space/i.test(message))
    return new StoreFullError(folder, 0, openingBytes, options);
  if (failedDisk.test(message))
    return new StoreReadOnlyError(folder, message, options);
  return new StoreCorruptError(folder, message, options);
}

class StoreTable<Value> implements Table<Value> {
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

/** The LMDB environment of one data folder (`<folder>/store/`), owned by one process at a time. */
export class Store {
  readonly folder: string;
  #environment: StoreEnvironment;
  readonly #lock: FolderLock;
  readonly #minFreeBytes: number;
  readonly #freeBytes: (folder: string) => Promise<number>;
  readonly #onCommit: (durationMs: number) => void;
  readonly #tables = new Map<
    string,
    { encoding: ValueEncoding; table: StoreTable<unknown> }
  >();
  readonly #underWay = new Set<Promise<unknown>>();
  #compacting: Promise<void> | undefined;
  /** Environments that compaction has replaced and that are still read. */
  readonly #closing = new Set<Promise<void>>();
  /** Where compaction opened the present one: its lock file is there. */
  #copy: string | undefined;
  #writable = true;
  /** What has to be set right before the next write. */
  #distrusted: "nothing" | "environment" | "folder" = "nothing";
  #recovering: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  private constructor(
    folder: string,
    environment: StoreEnvironment,
    lock: FolderLock,
    options: StoreOptions,
  ) {
    this.folder = folder;
    this.#environment = environment;
    this.#lock = lock;
    this.#minFreeBytes = options.minFreeBytes ?? 256 * 1024 * 1024;
    this.#freeBytes = options.freeBytes ?? freeBytesReader();
    this.#onCommit = options.onCommit ?? (() => undefined);
  }

  /**
   * Opens or makes the store and takes the folder's lock.
   *
   * @throws {StoreLockedError} another process has the folder
   * @throws {StoreReadOnlyError} the folder cannot be written
   * @throws {ConfigError} something that is no folder stands there
   * @throws {StoreFullError} not even an empty store fits
   * @throws {StoreCorruptError} the file is no LMDB environment
   */
  static async open(
    folder: string,
    options: StoreOptions = {},
  ): Promise<Store> {
    const path = join(folder, "store");
    let lock: FolderLock;
    try {
      await mkdir(path, { recursive: true });
      lock = await lockFolder(folder);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "";
      // mkdir of Node says ENOENT of a folder that a read-only or failing disk does not take.
      if (["EROFS", "EACCES", "EPERM", "EIO", "ENOENT"].includes(code))
        throw new StoreReadOnlyError(folder, code, { cause: error });
      if (code === "ENOSPC") throw new StoreFullError(folder, 0, openingBytes);
      if (["EEXIST", "ENOTDIR"].includes(code))
        throw new ConfigError(
          "data folder",
          `${folder} (${code})`,
          "a folder, or a path where one can be made",
        );
      throw error;
    }
    try {
      const free = await (options.freeBytes ?? freeBytesReader())(folder);
      if (free < openingBytes)
        throw new StoreFullError(folder, free, openingBytes);
      await checkStoreFile(join(path, "data.mdb"));
      await removeCopies(path);
      const environment = new StoreEnvironment(path);
      const store = new Store(folder, environment, lock, options);
      // Made now: a disk that takes no writes takes no new table either.
      store.table("probes", "data");
      return store;
    } catch (error) {
      lock.release();
      throw openingFailure(folder, error);
    }
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
    const table = new StoreTable(name, encoding, () => {
      this.#assertOpen();
      return this.#environment;
    });
    // Made now, not when it is first written: a disk that takes no writes takes no new table either.
    try {
      this.#environment.database(name, encoding);
    } catch (error) {
      throw openingFailure(this.folder, error);
    }
    this.#tables.set(name, { encoding, table });
    return table;
  }

  /**
   * One transaction: all of it is durable or none of it.
   *
   * @param action  collects the writes; synchronous; if it throws, nothing is written and the error passes on
   * @returns       what the action returned, after the transaction has been flushed to disk
   * @throws {StoreFullError} too little space
   * @throws {StoreReadOnlyError} the disk takes no writes
   * @throws {ClosedError}
   */
  async write<Result>(action: (writer: Writer) => Result): Promise<Result> {
    this.#assertOpen();
    while (!this.#isReady) await this.#settle();
    const writing = this.#write(action);
    this.#underWay.add(writing);
    try {
      return await writing;
    } catch (error) {
      this.#underWay.delete(writing);
      // The caller goes on with a store that can be read, and written where the disk lets it.
      await this.#settle().catch(() => undefined);
      throw error;
    } finally {
      this.#underWay.delete(writing);
    }
  }

  async #write<Result>(action: (writer: Writer) => Result): Promise<Result> {
    const free = await this.#freeBytes(this.folder);
    if (free < this.#minFreeBytes)
      throw new StoreFullError(this.folder, free, this.#minFreeBytes);
    const operations: Operation[] = [];
    const result = action(this.#writer(operations));
    if (operations.length === 0) return result;
    const started = performance.now();
    try {
      // Each write's own promise fails with its transaction: only the transaction's is waited for. Mostly they
      // share one, and a handler for each would be the dearest part of a small write.
      const { root, databases } = this.#environment;
      await root.batch(() => {
        let handled: Promise<unknown> | undefined;
        for (const operation of operations) {
          const writing = operation(databases);
          if (writing === handled) continue;
          handled = writing;
          writing.catch(() => undefined);
        }
      });
      await root.flushed;
    } catch (error) {
      throw await this.#failureOf(error);
    }
    this.#writable = true;
    this.#onCommit(performance.now() - started);
    return result;
  }

  /** Tries whether the disk takes writes again, where it last took none; `status` says what came of it. */
  async probe(): Promise<void> {
    if (this.#writable) return;
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
    await mkdir(path, { recursive: true });
    const file = join(path, "data.mdb");
    if (existsSync(file))
      throw new ConfigError("folder of the copy", file, "no store there");
    const copying = this.#environment.root.backup(path, true);
    this.#underWay.add(copying);
    try {
      await copying;
      await syncFile(file);
      await syncFolder(path);
    } catch (error) {
      const message = String(error);
      if (/no space/i.test(message))
        throw new DiskFullError(file, "ENOSPC", { cause: error });
      if (failedDisk.test(message))
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
    while (!this.#isReady) await this.#settle();
    await this.#replace((copy) => this.copyTo(copy));
  }

  /** Puts a copy of the file in its place, and an environment of its own; writes wait. */
  #replace(copyTo: (folder: string) => Promise<void>): Promise<void> {
    this.#compacting = this.#replaceNow(copyTo).finally(() => {
      this.#compacting = undefined;
    });
    return this.#compacting;
  }

  async #replaceNow(copyTo: (folder: string) => Promise<void>): Promise<void> {
    await Promise.allSettled([...this.#underWay]);
    const path = join(this.folder, "store");
    const copy = join(path, `${copyPrefix}${randomBytes(6).toString("hex")}`);
    const old = this.#environment;
    try {
      await copyTo(copy);
      const inner = join(copy, "store");
      const fresh = new StoreEnvironment(inner);
      try {
        for (const [name, { encoding }] of this.#tables)
          fresh.database(name, encoding);
        await rename(join(inner, "data.mdb"), join(path, "data.mdb"));
      } catch (error) {
        await fresh.close();
        throw error;
      }
      // The old file has no name any more: whatever comes, what is written to it would be lost.
      this.#environment = fresh;
    } catch (error) {
      await rm(copy, { recursive: true, force: true });
      throw writeFailure(error, join(path, "data.mdb"));
    }
    // Ranges that are still read hold the old file open, which has no name any more.
    const leftover = this.#copy;
    this.#copy = copy;
    // One whose transaction failed may never be done with it.
    const isAbandoned = this.#distrusted === "environment";
    const closing = old.close().then(async () => {
      if (leftover !== undefined)
        await rm(leftover, { recursive: true, force: true });
    });
    if (!isAbandoned) this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
    this.#distrusted = "folder";
    await this.#syncName();
  }

  /** Nothing is acknowledged in a file whose name is not on the disk yet. */
  async #syncName(): Promise<void> {
    const path = join(this.folder, "store");
    try {
      await syncFolder(path);
    } catch (error) {
      this.#writable = false;
      throw new StoreReadOnlyError(this.folder, String(error), {
        cause: error,
      });
    }
    this.#distrusted = "nothing";
  }

  /** Whether a write can begin: no copy is under way, and nothing is left in doubt by the last failure. */
  get #isReady(): boolean {
    return (
      this.#recovering === undefined &&
      this.#compacting === undefined &&
      this.#distrusted === "nothing"
    );
  }

  /**
   * Waits for what keeps a write from beginning, or sets it right; `#isReady` has to be asked again.
   *
   * @throws {StoreFullError} @throws {StoreReadOnlyError} @throws {ClosedError}
   */
  async #settle(): Promise<void> {
    if (this.#recovering !== undefined) await this.#recovering;
    else if (this.#compacting !== undefined)
      await this.#compacting.catch(() => undefined);
    else if (this.#distrusted !== "nothing")
      await (this.#recovering = this.#recover().finally(() => {
        this.#recovering = undefined;
      }));
    this.#assertOpen();
  }

  /**
   * Sets right what the last failure left in doubt.
   *
   * After a transaction that failed LMDB takes no more (its root was not written), or mixes up the operations of
   * the next ones. What it has in memory is given up for what is on the disk, which has every acknowledged
   * transaction: a copy of the file, so that reads go on in the old one meanwhile.
   */
  #recover(): Promise<void> {
    if (this.#distrusted === "folder") return this.#syncName();
    const file = join(this.folder, "store", "data.mdb");
    return this.#replace(async (folder) => {
      const path = join(folder, "store");
      await mkdir(path, { recursive: true });
      const copy = join(path, "data.mdb");
      await copyFile(file, copy, constants.COPYFILE_FICLONE);
      await syncFile(copy);
      await syncFolder(path);
    }).catch((error: unknown) => {
      if (error instanceof DiskFullError)
        throw new StoreFullError(this.folder, 0, openingBytes, {
          cause: error,
        });
      throw error instanceof ReidError
        ? error
        : new StoreReadOnlyError(this.folder, String(error), {
            cause: error,
          });
    });
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
      writable: this.#writable && freeBytes >= this.#minFreeBytes,
    };
  }

  /** Waits for writes under way, releases the lock; idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#compacting?.catch(() => undefined);
    await Promise.allSettled([...this.#underWay, ...this.#closing]);
    await this.#environment.close();
    this.#lock.release();
  }

  #writer(operations: Operation[]): Writer {
    const databaseOf = (
      tables: ReadonlyMap<string, Database>,
      name: string,
    ): Database => {
      const database = tables.get(name);
      assert(database !== undefined, `table ${name} is of another store`);
      return database;
    };
    return {
      put: (table, key, value) =>
        operations.push((tables) =>
          databaseOf(tables, table.name).put(keyOf(key), value),
        ),
      remove: (table, key) =>
        operations.push((tables) =>
          databaseOf(tables, table.name).remove(keyOf(key)),
        ),
      removeRange: (table, range) => {
        const database = databaseOf(this.#environment.databases, table.name);
        for (const key of database.getKeys(rangeOf(range)))
          operations.push((tables) =>
            databaseOf(tables, table.name).remove(key),
          );
      },
    };
  }

  async #failureOf(error: unknown): Promise<unknown> {
    const cause = await causeOf(error);
    const free = await this.#freeBytes(this.folder).catch(() => 0);
    const message = cause instanceof Error ? cause.message : String(cause);
    this.#writable = false;
    this.#distrusted = "environment";
    // LMDB answers a short write, which is how a full disk shows first, with EIO.
    if (
      /no space/i.test(message) ||
      free < Math.max(openingBytes, this.#minFreeBytes)
    )
      return new StoreFullError(this.folder, free, this.#minFreeBytes, {
        cause,
      });
    return new StoreReadOnlyError(this.folder, message, { cause });
  }

  #assertOpen(): void {
    if (this.#closed !== undefined)
      throw new ClosedError(`store ${this.folder}`);
  }
}
