import { open, type Database, type RootDatabase } from "lmdb";

import { assert } from "./errors.js";
import { environmentOptions } from "./store-file.js";
import type { StoreTransaction } from "./store-transaction.js";
import { StoreWriter } from "./store-writer.js";

/** How a table's values are encoded: raw bytes, or MessagePack of plain data (typed arrays and bytes included). */
export type ValueEncoding = "bytes" | "data";

/** lmdb's own, of a table of plain data; its types leave it out. */
interface ValueEncoder {
  encode(value: unknown): Uint8Array;
}

/** An open LMDB environment with its tables: read here, written by a thread of its own. */
export class StoreEnvironment {
  readonly root: RootDatabase;
  readonly databases = new Map<string, Database>();
  readonly #writer: StoreWriter;
  #ranges = 0;
  #retired: (() => void) | undefined;

  /**
   * @param path    of the folder that holds data.mdb
   * @param settled  where that folder's data.mdb is when it is first written: lmdb knows by the file that it has it
   *                 open already
   */
  constructor(path: string, settled = path) {
    this.root = open(environmentOptions(path));
    this.#writer = new StoreWriter(settled);
  }

  database(name: string, encoding: ValueEncoding): Database {
    const known = this.databases.get(name);
    if (known !== undefined) return known;
    const database = this.root.openDB({
      name,
      encoding: encoding === "bytes" ? "binary" : "msgpack",
    });
    this.databases.set(name, database);
    return database;
  }

  /** A value's bytes as its table has them; may be a view into memory that is used again. */
  encode(name: string, value: unknown): Uint8Array {
    const database = this.databases.get(name);
    assert(database !== undefined, `table ${name} is of another store`);
    const { encoder } = database as { encoder?: ValueEncoder };
    return encoder === undefined
      ? (value as Uint8Array)
      : encoder.encode(value);
  }

  /**
   * Makes a transaction: resolves when it is flushed and read here.
   *
   * @throws {TransactionFailedError}
   */
  async commit(transaction: StoreTransaction): Promise<void> {
    await this.#writer.commit(transaction);
    // What this thread reads would be of before the transaction for the rest of its turn.
    this.root.resetReadTxn();
  }

  /** Runs a range's iteration; `close` waits for it. */
  *iterate<Item>(items: () => Iterable<Item>): Iterable<Item> {
    this.#ranges++;
    try {
      yield* items();
    } finally {
      this.#ranges--;
      if (this.#ranges === 0) this.#retired?.();
    }
  }

  /** Waits for ranges that are still read: what they give is of the time they began. */
  async close(): Promise<void> {
    await this.#writer.close();
    if (this.#ranges > 0)
      await new Promise<void>((resolve) => (this.#retired = resolve));
    // The last of the threads that have the environment unmaps it, and has to be the one whose values point into it.
    await this.root.close();
  }
}
