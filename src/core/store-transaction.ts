import type { KeyRange, StoreKey } from "./store-keys.js";
import { operationKinds, type TransactionPart } from "./store-messages.js";
import { sealBytesOf } from "./store-values.js";

type OperationKind = keyof typeof operationKinds;

/** Operations sent at once: their keys are cloned in one turn, well under a millisecond. */
const operationsOfPart = 256;

/** The operations of one transaction, laid out for the thread that writes; values are copied as they are put. */
export class StoreTransaction {
  readonly #parts: Omit<TransactionPart, "id" | "isLast">[] = [];
  #tables: string[] = [];
  #layout: number[] = [];
  #keys: (StoreKey | KeyRange)[] = [];
  #values = Buffer.alloc(0);
  #size = 0;
  /** Bytes of the next block of values: a part is mostly as large as the one before. */
  #room = 1 << 12;

  get isEmpty(): boolean {
    return this.#parts.length === 0 && this.#keys.length === 0;
  }

  put(table: string, key: StoreKey, value: Uint8Array): void {
    const end = this.#size + value.byteLength + sealBytesOf(table);
    if (end > this.#values.length) {
      // Not out of Node's pool: it is transferred whole.
      const larger = Buffer.allocUnsafeSlow(
        Math.max(end, 2 * this.#size, this.#room),
      );
      this.#values.copy(larger, 0, 0, this.#size);
      this.#values = larger;
    }
    this.#values.set(value, this.#size);
    this.#size = end;
    this.#add("put", table, key);
  }

  remove(table: string, key: StoreKey): void {
    this.#add("remove", table, key);
  }

  removeRange(table: string, range: KeyRange): void {
    this.#add("removeRange", table, range);
  }

  /** The parts in order; used once. */
  parts(id: number): TransactionPart[] {
    if (this.#keys.length > 0) this.#seal();
    return this.#parts.map((part, i) => ({
      ...part,
      id,
      isLast: i === this.#parts.length - 1,
    }));
  }

  #add(kind: OperationKind, table: string, key: StoreKey | KeyRange): void {
    let index = this.#tables.indexOf(table);
    if (index < 0) index = this.#tables.push(table) - 1;
    this.#layout.push(operationKinds[kind], index, this.#size);
    this.#keys.push(key);
    if (this.#keys.length === operationsOfPart) this.#seal();
  }

  #seal(): void {
    this.#parts.push({
      does: "part",
      tables: this.#tables,
      layout: this.#layout,
      keys: this.#keys,
      values: this.#values.subarray(0, this.#size),
    });
    this.#room = Math.max(this.#room, this.#values.length);
    this.#values = Buffer.alloc(0);
    this.#size = 0;
    this.#tables = [];
    this.#layout = [];
    this.#keys = [];
  }
}
