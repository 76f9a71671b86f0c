import { ReidError } from "#core/errors";
import type { Store } from "#core/store";

import { GalleryNotFoundError } from "./errors.js";
import { Gallery } from "./gallery.js";
import type { GalleryContext } from "./gallery-context.js";
import { entryCountOf } from "./gallery-records.js";
import { lastSequenceOf, removeEntries } from "./gallery-removal.js";
import type { ModelVersion } from "./gallery-types.js";
import { copyEntries, recordsOf, restoredRecord } from "./restoring.js";
import { Tombstones } from "./tombstones.js";

/** The holder of the galleries, as a restore uses it. */
export interface RestoreHost {
  readonly context: GalleryContext;
  nextNumber(): number;
  find(name: string): Gallery | undefined;
  /** Puts a gallery where calls find it, in place of the one of its name. */
  place(gallery: Gallery): void;
}

/** What is restored. */
export interface RestorePlan {
  /** A backup's store; only read. */
  readonly copy: Store;
  /** Name in the copy → name here. */
  readonly plan: ReadonlyMap<string, string>;
}

/** How a restore is followed. */
export interface RestoreOptions {
  readonly signal: AbortSignal;
  /** Told how many entries are copied and indexed, of how many: each counts twice. */
  readonly report: (doneCount: number, totalCount: number) => void;
  /** Makes ready what the galleries need to serve, before they do. */
  readonly beforeSwap?: (models: readonly ModelVersion[]) => Promise<void>;
}

/**
 * Builds galleries from another store beside the living ones, and swaps them in at one commit.
 *
 * Entries go under new numbers, which no record has: a crash leaves what the next start removes. What was forgotten,
 * here or before the backup's own end, is left out. Tombstones of the copy are taken over first.
 *
 * @returns the restored galleries, which serve
 */
export async function restoreGalleries(
  host: RestoreHost,
  { copy, plan }: RestorePlan,
  { signal, report, beforeSwap }: RestoreOptions,
): Promise<readonly Gallery[]> {
  const { context } = host;
  const { store, tables } = context;
  const from = recordsOf(copy);
  const wanted = [...plan].map(([name, to]) => {
    const record = from.records.get(name);
    if (record === undefined) throw new GalleryNotFoundError(name);
    return { record, to };
  });
  const tombstones = new Tombstones(store);
  await tombstones.takeFrom(new Tombstones(copy));
  const total =
    2 * wanted.reduce((sum, { record }) => sum + entryCountOf(record), 0);
  let done = 0;
  const advance = (count: number) => report((done += count), total);
  const numbers: number[] = [];
  const made: Gallery[] = [];
  report(0, total);
  try {
    for (const { record, to } of wanted) {
      const number = host.nextNumber();
      numbers.push(number);
      const leftOut = await copyEntries(
        { tables: from.tables, number: record.number },
        { store, tables, number },
        {
          isForgotten: tombstones.matcher([record.name, to]),
          signal,
          onCopied: advance,
        },
      );
      const restored = restoredRecord(record, { name: to, number }, leftOut);
      made.push(
        await Gallery.load(context, restored, (count) => {
          advance(count);
          signal.throwIfAborted();
        }),
      );
    }
    await beforeSwap?.(made.map((gallery) => gallery.describe().model));
    signal.throwIfAborted();
    await swapIn(host, made, Math.max(...numbers));
  } catch (error) {
    await takeBack(context, made, numbers);
    throw error;
  }
  report(total, total);
  return made;
}

/** One commit for all: before it the old ones serve, after it the new ones. */
async function swapIn(
  host: RestoreHost,
  made: readonly Gallery[],
  lastNumber: number,
): Promise<void> {
  const { store, tables } = host.context;
  const pairs = made
    .map((fresh) => ({ fresh, old: host.find(fresh.name) }))
    .sort((a, b) => (a.fresh.name < b.fresh.name ? -1 : 1));
  const last = new Map<string, number>();
  const leaving: Promise<void>[] = [];
  const commit = async () => {
    const records = pairs.map(({ fresh }) =>
      fresh.continueFrom(
        Math.max(last.get(fresh.name) ?? 0, lastSequenceOf(tables, fresh.name)),
      ),
    );
    const next = Math.max(
      lastNumber + 1,
      tables.counters.get("next-number") ?? 1,
    );
    await store.write((writer) => {
      for (const record of records)
        writer.put(tables.galleries, record.name, record);
      writer.put(tables.counters, "next-number", next);
    });
    for (const { fresh, old } of pairs) {
      host.place(fresh);
      if (old !== undefined) leaving.push(old.giveWay());
    }
  };
  // Every old one is held, in order of their names, while no write to any is under way.
  const holdFrom = async (position: number): Promise<void> => {
    const pair = pairs[position];
    if (pair === undefined) return commit();
    const { old, fresh } = pair;
    if (old === undefined) return holdFrom(position + 1);
    return old.hold((sequence) => {
      last.set(fresh.name, sequence);
      return holdFrom(position + 1);
    });
  };
  await holdFrom(0);
  await Promise.all(leaving);
}

/** Removes what a restore that failed has built. */
async function takeBack(
  { store, tables, log }: GalleryContext,
  made: readonly Gallery[],
  numbers: readonly number[],
): Promise<void> {
  for (const gallery of made) await gallery.giveWay();
  try {
    for (const number of numbers) await removeEntries(store, tables, number);
  } catch (error) {
    if (!(error instanceof ReidError)) throw error;
    log.warn("what is left of a failed restore stays until the next start", {
      error,
    });
  }
}
