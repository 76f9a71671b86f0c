import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { silentLog } from "#core/log";
import { Store } from "#core/store";
import { StoredOperations } from "#serve/operation-table";
import { OperationLog, OperationNotFoundError } from "#serve/operations";
import type { Operation } from "#serve/operation-types";
import { watchOperation } from "#serve/services/watch-operation";
import { inFolder, SteppedClock } from "../support/galleries.js";

/** An operation log over a folder, and the store under it. */
async function open(folder: string, clock = new SteppedClock()) {
  const store = await Store.open(folder, { minFreeBytes: 0 });
  const table = new StoredOperations(store);
  const operations = await OperationLog.open({ table, clock, log: silentLog });
  return {
    operations,
    clock,
    close: async () => {
      await operations.close();
      await store.close();
    },
  };
}

/** Ends when it is told to stop. */
const untilStopped = ({ signal }: { readonly signal: AbortSignal }) =>
  new Promise<undefined>((_, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason as Error)),
  );

function ended(operations: OperationLog, id: string): Promise<Operation> {
  return new Promise((resolve) => {
    const look = () => {
      const operation = operations.get(id);
      if (operation.state !== "running") resolve(operation);
    };
    operations.watch(id, look);
    look();
  });
}

describe("OperationLog", () => {
  test("lists the newest first and forgets what ended more than 7 days ago", () =>
    inFolder(async (folder) => {
      const first = await open(folder);
      const { operations, clock } = first;
      const done = async () => undefined;
      const old = await operations.start("snapshot", "gallery/a", done);
      await ended(operations, old.operationId);
      clock.timeMs += 6 * 86_400_000;
      const young = await operations.start("snapshot", "gallery/b", done);
      await ended(operations, young.operationId);
      assert.deepEqual(
        operations.list().map(({ subject }) => subject),
        ["gallery/b", "gallery/a"],
      );
      await first.close();
      clock.timeMs += 2 * 86_400_000;
      const second = await open(folder, clock);
      assert.deepEqual(
        second.operations.list().map(({ subject }) => subject),
        ["gallery/b"],
      );
      await second.close();
    }));

  test("cancels once and for all, and does not mind a work that is done", () =>
    inFolder(async (folder) => {
      const { operations, close } = await open(folder);
      const { operationId } = await operations.start(
        "backup",
        "backup/b",
        untilStopped,
      );
      assert.equal((await operations.cancel(operationId)).state, "running");
      await operations.cancel(operationId);
      const operation = await ended(operations, operationId);
      assert.equal(operation.state, "cancelled");
      assert.deepEqual(await operations.cancel(operationId), operation);
      await assert.rejects(operations.cancel("none"), OperationNotFoundError);
      await close();
    }));

  test("goes on after a restart with what it can, and fails the rest as interrupted", () =>
    inFolder(async (folder) => {
      const rebuilt: string[] = [];
      const rebuild = {
        rebuild: (operation: Operation) => async () => {
          rebuilt.push(operation.subject);
          return undefined;
        },
      };
      const first = await open(folder);
      await first.operations.resume(rebuild);
      const kept = await first.operations.start(
        "rebuild",
        "gallery/a",
        untilStopped,
      );
      const lost = await first.operations.start(
        "restore",
        "backup/b",
        untilStopped,
      );
      await first.close();

      const { operations, close } = await open(folder);
      assert.equal(operations.get(kept.operationId).state, "running");
      await operations.resume(rebuild);
      const resumed = await ended(operations, kept.operationId);
      assert.deepEqual(rebuilt, ["gallery/a"]);
      assert.equal(resumed.state, "succeeded");
      const { state, error } = operations.get(lost.operationId);
      assert.deepEqual(
        [state, error?.code],
        ["failed", "OPERATION_INTERRUPTED"],
      );
      await close();
    }));

  test("writes what belongs to an operation in its own transaction", () =>
    inFolder(async (folder) => {
      const store = await Store.open(folder, { minFreeBytes: 0 });
      const clock = new SteppedClock();
      const table = new StoredOperations(store);
      const options = { table, clock, log: silentLog };
      const operations = await OperationLog.open(options);
      const beside = store.table<string>("beside", "data");
      const { operationId } = await operations.start(
        "snapshot",
        "gallery/a",
        async () => undefined,
        (writer, operation) => writer.put(beside, "a", operation.operationId),
      );
      assert.equal(beside.get("a"), operationId);
      await operations.close();
      await store.close();
    }));
});

describe("watchOperation", () => {
  test("sends now, at changes, and last how it ended", () =>
    inFolder(async (folder) => {
      const { operations, close } = await open(folder);
      let report: (done: number) => void = () => undefined;
      let finish: () => void = () => undefined;
      const { operationId } = await operations.start(
        "rebuild",
        "gallery/a",
        (progress) => {
          report = (done) => progress.report(done, 10);
          return new Promise((resolve) => (finish = () => resolve(undefined)));
        },
      );
      const seen: string[] = [];
      await watchOperation(
        { operations },
        operationId,
        new AbortController().signal,
        async ({ state, doneCount }) => {
          seen.push(`${state} ${doneCount}`);
          // Faster than twice a second: they come as one.
          for (const done of [3, 5, 7]) report(done);
          finish();
        },
      );
      assert.deepEqual(seen, ["running 0", "succeeded 7"]);
      await close();
    }));
});
