import { open, type Database, type RootDatabase } from "lmdb";

import { environmentOptions, openTable } from "./store-file.js";
import type { StoreTransaction } from "./store-transaction.js";
import { StoreWriter } from "./store-writer.js";

/** An open LMDB environment with its tables: read here, written by a thread of its own. */
export class StoreEnvironment {
  readonly root: RootDatabase;
  readonly #databases = new Map<string, Database<Buffer>>();
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

  /** Names of the tables that were opened. */
  tables(): Iterable<string> {
    return this.#databases.keys();
  }

  /** As `openTable`, once for each name. */
  database(name: string): Database<Buffer> {
    const known = this.#databases.get(name);
    if (known !== undefined) return known;
    const database = openTable(this.root, name);
    this.#databases.set(name, database);
    return database;
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
