import { randomUUID } from "node:crypto";
import { systemClock, type Clock } from "#core/clock";
import { silentLog } from "#core/log";
import { Store } from "#core/store";
import { StoreRequestLog, type RequestLog } from "#index/request-log";
import { ScaledGalleries } from "#index/scaled-galleries";
import { StoredOperations, type OperationTable } from "#serve/operation-table";
import { OperationLog } from "#serve/operations";
import { PostgresOperations } from "#serve/shared-operations";
import { inFolder, SteppedClock } from "./galleries.js";
import { inDatabase, optionsOf, skipScaled } from "./scaled.js";

/** An operation log that is open. */
export interface OpenOperations {
  readonly operations: OperationLog;
  readonly clock: SteppedClock;
  close(): Promise<void>;
}

/** What a case does with the operations of one engine. */
export interface OperationsCase {
  /** Opens a log: another server's, or the same one's after a restart. */
  readonly open: (clock?: SteppedClock) => Promise<OpenOperations>;
  /** Where calls that start operations keep their responses; of the log that was opened last. */
  readonly requests: () => RequestLog;
  /** Has the servers so far seem dead to the next. */
  readonly silence: () => Promise<void>;
}

/** Where operations are kept. */
export interface OperationsEngine {
  readonly name: string;
  readonly skip: string | false;
  run(action: (of: OperationsCase) => Promise<void>): Promise<void>;
}

async function openLog(
  table: OperationTable,
  clock: SteppedClock,
  closeStore: () => Promise<void>,
): Promise<OpenOperations> {
  const operations = await OperationLog.open({ table, clock, log: silentLog });
  return {
    operations,
    clock,
    close: async () => {
      await operations.close();
      await closeStore();
    },
  };
}

/** LMDB of one server, then PostgreSQL of several. */
export const operationEngines: readonly [OperationsEngine, OperationsEngine] = [
  {
    name: "embedded",
    skip: false,
    run: (action) =>
      inFolder(async (folder) => {
        let requests: RequestLog | undefined;
        await action({
          open: async (clock = new SteppedClock()) => {
            const store = await Store.open(folder, { minFreeBytes: 0 });
            requests = new StoreRequestLog(store, clock);
            return openLog(new StoredOperations(store), clock, () =>
              store.close(),
            );
          },
          requests: () => opened(requests),
          silence: () => Promise.resolve(),
        });
      }),
  },
  {
    name: "scaled",
    skip: skipScaled,
    run: (action) =>
      inDatabase(async (services) => {
        const servers: ScaledGalleries[] = [];
        const add = async (clock: Clock) => {
          const galleries = await ScaledGalleries.open(
            optionsOf(services, clock),
          );
          servers.push(galleries);
          return galleries;
        };
        await add(systemClock);
        try {
          await action({
            open: async (clock = new SteppedClock()) => {
              const { postgres } = await add(clock);
              const table = new PostgresOperations(postgres, randomUUID());
              return openLog(table, clock, () => Promise.resolve());
            },
            requests: () => opened(servers.at(-1)?.requests),
            silence: async () => {
              await servers[0].postgres.query(
                "UPDATE operations SET alive_until = '-infinity'",
              );
            },
          });
        } finally {
          for (const one of servers) await one.close();
        }
      }),
  },
];

function opened(requests: RequestLog | undefined): RequestLog {
  if (requests === undefined) throw new RangeError("nothing was opened");
  return requests;
}
