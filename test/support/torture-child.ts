// Started by the torture as a process of its own: operations on a data folder until it is killed, or until its steps
// are done. Says what it is about to do, and what was acknowledged, one line each.
//
//   node torture-child.js FOLDER SEED FIRST_STEP STEPS random|script
import { writeSync } from "node:fs";
import { join } from "node:path";

import { ReidError } from "#core/errors";
import { removeTree } from "#core/files";
import { Store } from "#core/store";
import {
  deleteBackup,
  listBackups,
  stageBackup,
  sweepBackups,
  writeBackup,
} from "#index/backup";
import { GalleryStore } from "#index/gallery-store";
import type { EntrySelector, InTransaction } from "#index/gallery-types";
import { Tombstones } from "#index/tombstones";

import { featureNamed, SteppedClock } from "./galleries.js";
import type { Answer } from "./torture-model.js";
import {
  cropNamed,
  homeGalleries,
  keeper,
  randomStep,
  receiptsTable,
  scriptedStep,
  timeOf,
  tortureDimension,
  type Chosen,
  type Operation,
  type Placed,
} from "./torture-plan.js";
import { markOf, receiptsIn } from "./torture-receipts.js";

const [folder, seed, first, steps, mode] = process.argv.slice(2);
const data = join(folder, "data");
const backups = join(folder, "backups");
const staging = join(data, "restoring");
const signal = new AbortController().signal;
const unreported = { signal, report: () => undefined };

// One write call a line: a line is there whole or not at all.
function say(line: Readonly<Record<string, unknown>>): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

const clock = new SteppedClock(timeOf(Number(first)));
const { store, galleries, receipts } = await start();
say({ say: "ready" });

/** What a failure is called: the code of an error of ours, NONE and its trace where it is not. */
function failure(error: unknown): { code: string; message: string } {
  if (error instanceof ReidError)
    return { code: error.code, message: error.message };
  const trace = error instanceof Error ? error.stack : undefined;
  return { code: "NONE", message: trace ?? String(error) };
}

async function start() {
  try {
    const store = await Store.open(data, { minFreeBytes: 0 });
    await removeTree(staging);
    await sweepBackups(backups);
    const log = { info: () => undefined, warn: () => undefined };
    const galleries = await GalleryStore.open(store, { clock, log });
    const receipts = store.table<number>(receiptsTable, "data");
    return { store, galleries, receipts };
  } catch (error) {
    say({ say: "not started", ...failure(error) });
    process.exit(3);
  }
}

const graphIndex = {
  kind: "hnsw",
  m: 8,
  efConstruction: 40,
  efSearch: 64,
} as const;

function receipt(lane: number, step: number): InTransaction<unknown> {
  return (writer) => {
    writer.put(receipts, String(lane), step);
  };
}

async function restore(backupId: string): Promise<void> {
  const staged = join(staging, backupId);
  try {
    await stageBackup(backups, backupId, staged, unreported);
    const copy = await Store.open(staged, { minFreeBytes: 0 });
    try {
      const names = [
        ...copy.table<{ name: string }>("galleries", "data").range(),
      ].map(({ value }) => value.name);
      await galleries.restore(
        copy,
        new Map(names.map((name) => [name, name])),
        unreported,
      );
    } finally {
      await copy.close();
    }
  } finally {
    // The next start removes it.
    await removeTree(staged).catch(() => undefined);
  }
}

function selectorOf(chosen: Chosen): EntrySelector {
  if (!("identityIn" in chosen)) return chosen;
  const { identityIn, cameraIn } = chosen;
  return { filter: { identityIn: [identityIn], cameraIn: [cameraIn] } };
}

async function make(
  operation: Operation,
  lane: number,
  step: number,
): Promise<Answer> {
  const inTransaction = receipt(lane, step);
  switch (operation.kind) {
    case "enroll": {
      const { gallery, items, onExisting } = operation;
      const { results } = await (
        await galleries.get(gallery)
      ).enroll(
        items.map(({ version, expiresAtMs, ...rest }) => ({
          ...rest,
          feature: featureNamed(version, tortureDimension),
          crop: cropNamed(version),
          ...(expiresAtMs === undefined
            ? {}
            : { expiresAtUs: expiresAtMs * 1000 }),
        })),
        { onExisting, inTransaction },
      );
      return {
        results: results.map(({ sequence, error }) => ({
          sequence,
          ...(error === undefined ? {} : { code: error.code }),
        })),
      };
    }
    case "delete":
    case "delete-identity":
    case "delete-filter": {
      const gallery = await galleries.get(operation.gallery);
      const selector =
        operation.kind === "delete"
          ? { entryIds: operation.entryIds }
          : operation.kind === "delete-identity"
            ? { identity: operation.identity }
            : {
                filter: {
                  identityIn: [operation.identity],
                  cameraIn: [operation.cameraId],
                },
              };
      const { deletedCount } = await gallery.deleteEntries(
        selector,
        inTransaction,
      );
      return { deletedCount };
    }
    case "update": {
      const gallery = await galleries.get(operation.gallery);
      const { attributes, expiresAtMs, ...texts } = operation.changes;
      const { updatedCount } = await gallery.updateEntries(
        selectorOf(operation.chosen),
        {
          ...texts,
          trackId: markOf(lane, step),
          ...(expiresAtMs === undefined
            ? {}
            : {
                expiresAtUs: expiresAtMs === null ? null : expiresAtMs * 1000,
              }),
          ...(attributes === undefined
            ? {}
            : { attributes: { ...attributes, maximum: 8 } }),
        },
      );
      return { updatedCount };
    }
    case "forget":
      await galleries.forget(operation.identity, operation.gallery);
      return {};
    case "snapshot":
      await (await galleries.get(operation.gallery)).snapshot();
      return {};
    case "reindex": {
      const gallery = await galleries.get(operation.gallery);
      const { kind } = gallery.describe().index;
      await gallery.update({
        index: kind === "flat" ? graphIndex : { kind: "flat" },
      });
      await gallery.rebuild();
      return {};
    }
    case "rebuild":
      await (await galleries.get(operation.gallery)).rebuild();
      return {};
    case "create":
      await galleries.create({
        name: operation.gallery,
        model: { name: "external", version: 1 },
        dimension: tortureDimension,
        index: operation.gallery === "flat" ? { kind: "flat" } : graphIndex,
        cropRetention: operation.gallery === "flat" ? "keep" : "none",
      });
      return {};
    case "drop":
      await galleries.delete(operation.gallery);
      return {};
    case "compact":
      await galleries.compact();
      return {};
    case "sweep":
      await galleries.sweep();
      return {};
    case "backup": {
      const { backupId } = operation;
      await writeBackup(
        backups,
        { store, galleries: [], bundlesOf: () => Promise.resolve([]) },
        {
          ...{ backupId, ...unreported },
          createdAtMs: clock.now(),
          serverVersion: "0",
        },
      );
      for (const old of (await listBackups(backups)).slice(2))
        await deleteBackup(backups, old.backupId);
      return {};
    }
    case "restore":
      await restore(operation.backupId);
      return {};
  }
}

/** What of an operation that failed half way is there all the same: only those of several transactions ask. */
function isApplied(operation: Operation, step: number): boolean {
  const { kind } = operation;
  if (kind === "forget")
    return new Tombstones(store).matcher([operation.gallery])(
      operation.identity,
      timeOf(step) * 1000,
    );
  if (kind !== "create" && kind !== "drop") return false;
  const has = galleries.known().some(({ name }) => name === operation.gallery);
  return has === (kind === "create");
}

/** Where that cannot be read, the child ends: what is there its folder's next owner finds out. */
function whetherApplied(operation: Operation, step: number): boolean {
  try {
    return isApplied(operation, step);
  } catch (error) {
    say({ say: "not looked", ...failure(error) });
    process.exit(3);
  }
}

let turn = 0;

/** Runs operations at once; the next turn begins when all have ended. */
async function run(step: number, operations: readonly Placed[]): Promise<void> {
  clock.timeMs = timeOf(step);
  turn++;
  for (const placed of operations)
    say({ say: "intent", turn, step, ...placed });
  await Promise.all(
    operations.map(async ({ lane, operation }) => {
      try {
        const answer = await make(operation, lane, step);
        say({ say: "ack", turn, lane, answer });
      } catch (error) {
        say({
          ...{ say: "refused", turn, lane },
          applied: whetherApplied(operation, step),
          ...failure(error),
        });
      }
    }),
  );
}

/** The newest backup, and what it holds of the writes that went on beside it; undefined: there is none. */
async function newestBackup(): Promise<Operation | undefined> {
  const newest = (await listBackups(backups)).at(0);
  if (newest === undefined) return undefined;
  const { backupId } = newest;
  const looked = join(staging, "looked-at");
  await stageBackup(backups, backupId, looked, unreported);
  const copy = await Store.open(looked, { minFreeBytes: 0 });
  const receipts = receiptsIn(copy);
  await copy.close();
  await removeTree(looked);
  return { kind: "restore", backupId, receipts };
}

async function alone(kind: "restore" | "side"): Promise<Operation | undefined> {
  if (kind === "restore") return newestBackup();
  const isThere = galleries.known().some(({ name }) => name === "side");
  return { kind: isThere ? "drop" : "create", gallery: "side" };
}

async function takeStep(step: number): Promise<void> {
  const has = (name: string) =>
    galleries.known().some((gallery) => gallery.name === name);
  for (const gallery of homeGalleries)
    if (!has(gallery))
      await run(step, [
        { lane: keeper, operation: { kind: "create", gallery } },
      ]);
  if (!homeGalleries.every(has)) return;
  const draw = mode === "script" ? scriptedStep : randomStep;
  const planned = draw(Number(seed), step);
  if ("operations" in planned) return run(step, planned.operations);
  try {
    const operation = await alone(planned.alone);
    if (operation !== undefined) await run(step, [{ lane: keeper, operation }]);
  } catch (error) {
    say({ say: "not looked", ...failure(error) });
  }
}

const end = Number(first) + Number(steps);
for (let step = Number(first); step < end; step++) await takeStep(step);
try {
  await galleries.close();
  await store.close();
} catch (error) {
  say({ say: "not closed", ...failure(error) });
}
say({ say: "done" });
