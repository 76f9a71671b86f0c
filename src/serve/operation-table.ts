import type { Store, Table, Writer } from "#core/store";
import type { Operation } from "./operation-types.js";

/** What other servers have done since the last exchange, and what of this one's work is no longer its own. */
export interface Exchange {
  /** Of other servers. */
  readonly changed: readonly Operation[];
  /** Ids of this server's, which somebody has asked to stop. */
  readonly toStop: readonly string[];
  /** Ids of this server's, which another has taken over: it was not heard of for too long. */
  readonly lost: readonly string[];
}

/** Operations of several servers: each works on its own, and all can be asked about all. */
export interface SharedOperations {
  /** Tells the others that this server lives and how far its work is, and learns of theirs. */
  exchange(running: readonly Operation[]): Promise<Exchange>;
  /** Asks the server that works on an operation to stop. */
  askToStop(operationId: string): Promise<void>;
  /** Leaves what is still under way to the others. */
  leave(): Promise<void>;
}

/** Where operations are kept. */
export interface OperationTable {
  /** Undefined: this server is the only one. */
  readonly shared: SharedOperations | undefined;
  /** Every operation. */
  read(): Promise<readonly Operation[]>;
  /**
   * Writes operations of this server's; durable when it resolves.
   *
   * @param within  puts what belongs to them into the same transaction
   * @throws {GalleryBusyError} another server works on the gallery of a new one
   */
  put(
    operations: readonly Operation[],
    within?: (writer: Writer) => void,
  ): Promise<void>;
  /** Forgets operations. */
  remove(operationIds: readonly string[]): Promise<void>;
  /** Takes over what is under way and no server works on. @returns it */
  claim(): Promise<readonly Operation[]>;
}

/** Operations of one server, in LMDB. */
export class StoredOperations implements OperationTable {
  readonly shared = undefined;
  readonly #store: Store;
  readonly #table: Table<Operation>;

  constructor(store: Store) {
    this.#store = store;
    this.#table = store.table<Operation>("operations", "data");
  }

  read(): Promise<readonly Operation[]> {
    return Promise.resolve([...this.#table.range()].map(({ value }) => value));
  }

  put(
    operations: readonly Operation[],
    within?: (writer: Writer) => void,
  ): Promise<void> {
    return this.#store.write((writer) => {
      for (const one of operations)
        writer.put(this.#table, one.operationId, one);
      within?.(writer);
    });
  }

  remove(operationIds: readonly string[]): Promise<void> {
    return this.#store.write((writer) => {
      for (const id of operationIds) writer.remove(this.#table, id);
    });
  }

  async claim(): Promise<readonly Operation[]> {
    return (await this.read()).filter(({ state }) => state === "running");
  }
}
