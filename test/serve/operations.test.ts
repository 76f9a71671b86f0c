import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { ReidError } from "#core/errors";
import { type OperationLog, OperationNotFoundError } from "#serve/operations";
import type { Operation } from "#serve/operation-types";
import { watchOperation } from "#serve/services/watch-operation";
import { operationEngines } from "../support/operation-engines.js";
import { skipScaled } from "../support/scaled.js";

const [embedded, scaled] = operationEngines;

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

for (const engine of operationEngines)
  describe(`OperationLog, ${engine.name}`, { skip: engine.skip }, () => {
    test("lists the newest first and forgets what ended more than 7 days ago", () =>
      engine.run(async ({ open }) => {
        const first = await open();
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
        const second = await open(clock);
        assert.deepEqual(
          second.operations.list().map(({ subject }) => subject),
          ["gallery/b"],
        );
        await second.close();
      }));

    test("cancels once and for all, and does not mind a work that is done", () =>
      engine.run(async ({ open }) => {
        const { operations, close } = await open();
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
      engine.run(async ({ open }) => {
        const rebuilt: string[] = [];
        const rebuild = {
          rebuild: (operation: Operation) => async () => {
            rebuilt.push(operation.subject);
            return undefined;
          },
        };
        const first = await open();
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

        const { operations, close } = await open();
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

    test("writes what belongs to an operation in its own transaction, or neither", () =>
      engine.run(async ({ open, requests }) => {
        const { operations, close } = await open();
        const identified = {
          requestId: randomUUID(),
          request: Buffer.from("start"),
        };
        const start = (fails: boolean) =>
          requests().once(identified, async (keep) => {
            let response: Uint8Array = new Uint8Array();
            await operations.start(
              "snapshot",
              "gallery/a",
              async () => undefined,
              (writer, { operationId }) => {
                response = Buffer.from(operationId);
                keep(writer, response);
                if (fails) throw new RangeError("given up");
              },
            );
            return response;
          });
        await assert.rejects(start(true), /given up/);
        assert.deepEqual(operations.list(), []);
        const first = await start(false);
        assert.deepEqual(Buffer.from(await start(false)), Buffer.from(first));
        assert.deepEqual(
          operations.list().map(({ operationId }) => operationId),
          [Buffer.from(first).toString()],
        );
        await close();
      }));
  });

describe("watchOperation", () => {
  test("sends now, at changes, and last how it ended", () =>
    embedded.run(async ({ open }) => {
      const { operations, close } = await open();
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

describe("operations of two servers", { skip: skipScaled }, () => {
  test("are known to both, and can be stopped and followed through either", () =>
    scaled.run(async ({ open }) => {
      const [one, other] = [await open(), await open()];
      const { operationId } = await one.operations.start(
        "rebuild",
        "gallery/a",
        (progress) => {
          progress.report(3, 10);
          return untilStopped(progress);
        },
      );
      await other.operations.refresh();
      assert.equal(
        other.operations.runningOn("gallery/a")?.operationId,
        operationId,
      );
      const seen: string[] = [];
      const watching = watchOperation(
        other,
        operationId,
        new AbortController().signal,
        async ({ state, doneCount }) => {
          seen.push(`${state} ${doneCount}`);
          if (doneCount === 3 && state === "running")
            await other.operations.cancel(operationId);
        },
      );
      await watching;
      assert.equal(seen.at(-1), "cancelled 3");
      assert.equal(one.operations.get(operationId).state, "cancelled");
      await one.close();
      await other.close();
    }));

  test("work on one gallery one at a time", () =>
    scaled.run(async ({ open }) => {
      const [one, other] = [await open(), await open()];
      const begun = await Promise.allSettled(
        [one, other].map(({ operations }) =>
          operations.start("rebuild", "gallery/a", untilStopped),
        ),
      );
      const refused = begun.filter(({ status }) => status === "rejected");
      assert.equal(refused.length, 1);
      const { reason } = refused[0] as PromiseRejectedResult;
      assert.equal((reason as ReidError).code, "GALLERY_BUSY");
      await other.operations.refresh();
      assert.equal(
        (reason as ReidError).facts["operationId"],
        other.operations.runningOn("gallery/a")?.operationId,
      );
      await other.operations.start("rebuild", "gallery/b", untilStopped);
      await one.operations.start("snapshot", "gallery/a", untilStopped);
      await one.close();
      await other.close();
    }));

  test("of which one is not heard of any more: the other goes on with its work, and what comes of it there is void", () =>
    scaled.run(async ({ open, silence }) => {
      const [one, other] = [await open(), await open()];
      const stopped = new Promise<unknown>((resolve) => {
        void one.operations.start("rebuild", "gallery/a", (progress) =>
          untilStopped(progress).catch((error: unknown) => {
            resolve(error);
            throw error;
          }),
        );
      });
      while (one.operations.list().length === 0) await delay(10);
      const [{ operationId }] = one.operations.list();
      await silence();
      await other.operations.resume({
        rebuild: () => async () => undefined,
      });
      assert.equal(
        (await ended(other.operations, operationId)).state,
        "succeeded",
      );
      assert.equal(
        ((await stopped) as ReidError).code,
        "OPERATION_INTERRUPTED",
      );
      await one.operations.refresh();
      assert.equal(one.operations.get(operationId).state, "succeeded");
      await one.close();
      await other.close();
    }));
});
