// The thread that writes a store's file: LMDB flushes within the commit, and nobody else waits for it.
import { parentPort, workerData } from "node:worker_threads";

import { open, type Database } from "lmdb";

import { assert } from "./errors.js";
import { environmentOptions, openTable } from "./store-file.js";
import { keyOf, rangeOf, type KeyRange, type StoreKey } from "./store-keys.js";
import {
  layoutNumbers,
  operationKinds,
  type StoreFailure,
  type StoreReply,
  type StoreRequest,
  type TransactionPart,
} from "./store-messages.js";
import { seal } from "./store-values.js";

assert(parentPort, "the store's worker runs in a thread of its own");
const port = parentPort;

const { path } = workerData as { path: string };
const root = open(environmentOptions(path));
const tables = new Map<string, Database<Buffer>>();

/** Parts of transactions that are not complete. */
const incomplete = new Map<number, TransactionPart[]>();
/** A commit has failed: what LMDB has in memory is not to be trusted, and the next number would be given twice. */
let failed: StoreFailure | undefined;
/** Complete transactions: those that wait together share a commit. */
let waiting: { readonly id: number; readonly parts: TransactionPart[] }[] = [];

port.on("message", (request: StoreRequest) => {
  if (request.does === "close") {
    void root.close().then(() => port.close());
    return;
  }
  const { id, isLast } = request;
  // Now: within a transaction a table cannot be opened.
  for (const name of request.tables) tableOf(name);
  const parts = incomplete.get(id) ?? [];
  parts.push(request);
  if (!isLast) {
    incomplete.set(id, parts);
    return;
  }
  incomplete.delete(id);
  waiting.push({ id, parts });
  // After whatever else has arrived by now.
  if (waiting.length === 1) setImmediate(commitWaiting);
});

function commitWaiting(): void {
  const together = waiting;
  waiting = [];
  const outcome = commit(together.flatMap(({ parts }) => parts));
  // One of them cannot be written: the others can.
  if (outcome.did === "abort" && together.length > 1)
    for (const { id, parts } of together) reply({ ...commit(parts), id });
  else for (const { id } of together) reply({ ...outcome, id });
}

type WithoutId<Reply> = Reply extends unknown ? Omit<Reply, "id"> : never;
type Outcome = WithoutId<StoreReply>;

/** Makes one transaction; it is flushed when this returns. */
function commit(parts: readonly TransactionPart[]): Outcome {
  if (failed !== undefined) return { did: "abort", failure: failed };
  let transaction: number | undefined;
  try {
    root.transactionSync(() => {
      for (const part of parts) write(part);
      transaction = root.getWriteTxnId();
    });
    return { did: "commit" };
  } catch (error) {
    const failure = failureOf(error);
    if (transaction === undefined) return { did: "abort", failure };
    failed = failure;
    return { did: "fail", transaction, failure };
  }
}

function write(part: TransactionPart): void {
  const opened = part.tables.map(tableOf);
  const { layout, keys } = part;
  const { buffer, byteOffset, byteLength } = part.values;
  const values = Buffer.from(buffer, byteOffset, byteLength);
  let start = 0;
  keys.forEach((key, i) => {
    const at = layoutNumbers * i;
    const [kind, index, end] = [layout[at], layout[at + 1], layout[at + 2]];
    const table = opened[index];
    switch (kind) {
      case operationKinds.put: {
        const value = values.subarray(start, end);
        seal(part.tables[index], key as StoreKey, value);
        table.putSync(keyOf(key as StoreKey), value);
        break;
      }
      case operationKinds.remove:
        table.removeSync(keyOf(key as StoreKey));
        break;
      default:
        for (const found of [...table.getKeys(rangeOf(key as KeyRange))])
          table.removeSync(found);
    }
    start = end;
  });
}

/** Values come as bytes, however the table's readers understand them. */
function tableOf(name: string): Database<Buffer> {
  let table = tables.get(name);
  if (table === undefined) {
    table = openTable(root, name);
    tables.set(name, table);
  }
  return table;
}

function failureOf(error: unknown): StoreFailure {
  const message = error instanceof Error ? error.message : String(error);
  const { code } = error as { code?: unknown };
  return typeof code === "number" ? { message, code } : { message };
}

function reply(message: StoreReply): void {
  port.postMessage(message);
}
