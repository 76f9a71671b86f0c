// What the store and the thread that writes its file say to each other.
import type { KeyRange, StoreKey } from "./store-keys.js";

/** What an operation does to its table. */
export const operationKinds = { put: 0, remove: 1, removeRange: 2 } as const;

/** Numbers of one operation in the layout: its kind, the index of its table, where its value ends. */
export const layoutNumbers = 3;

/** Some operations of a transaction, in order. */
export interface TransactionPart {
  readonly does: "part";
  /** Of the transaction. */
  readonly id: number;
  readonly tables: readonly string[];
  /** [N, 3]; see `layoutNumbers`. */
  readonly layout: readonly number[];
  /** [N]: a range where the operation removes one. */
  readonly keys: readonly (StoreKey | KeyRange)[];
  /** One after another, each from where the one before ends, with room for its checksum. */
  readonly values: Uint8Array;
  /** Nothing follows: the transaction can be committed. */
  readonly isLast: boolean;
}

/** To the thread. */
export type StoreRequest = TransactionPart | { readonly does: "close" };

/** Of LMDB, or of what was handed to it. */
export interface StoreFailure {
  readonly message: string;
  /** LMDB's own, or the system's errno; left out: the error is none of LMDB's. */
  readonly code?: number;
}

/** From the thread. */
export type StoreReply =
  | { readonly did: "commit"; readonly id: number }
  /** Nothing of it was written, and the next may be. */
  | {
      readonly did: "abort";
      readonly id: number;
      readonly failure: StoreFailure;
    }
  /** Its commit failed: the file may have it all the same, until it is taken back. None is made after it. */
  | {
      readonly did: "fail";
      readonly id: number;
      readonly transaction: number;
      readonly failure: StoreFailure;
    };
