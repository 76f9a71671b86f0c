import { randomUUID } from "node:crypto";

import type { Clock } from "#core/clock";
import { ReidError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store, Table } from "#core/store";

import type { Gallery } from "./gallery.js";
import type { HashedRow } from "./hashed-rows.js";
import type { StoreRequestLog } from "./request-log.js";
import { Tombstones } from "./tombstones.js";

/** An entry that was forgotten, as far as others than its gallery can tell it. */
export interface ForgottenRow {
  readonly cameraId: string;
  /** Empty: unknown. */
  readonly trackId: string;
  /** Keyed hash of its crop as it came, hexadecimal; left out: not known. */
  readonly cropHash?: string;
}

/** What a forgetting has taken away. */
export interface Forgotten {
  readonly receiptId: string;
  /** Microseconds since 1970. */
  readonly forgottenAtUs: number;
  readonly entryCount: number;
  /** Of the entries, those whose crop was kept. */
  readonly cropCount: number;
  /** Galleries that held it, with the number of their entries. */
  readonly galleries: ReadonlyMap<string, number>;
  /** The entries as they were, without features and crops: by track and hash the memory finds its rows. */
  readonly rows: readonly ForgottenRow[];
}

/** Where an identity is forgotten. */
export interface ForgettingScope {
  readonly galleries: readonly Gallery[];
  /** For the tombstone: the one gallery, or empty for all. */
  readonly gallery: string;
  readonly requests: StoreRequestLog;
}

/**
 * Forgets identities, and sees to it that their bytes leave the disk.
 *
 * Each gallery's entries go in one transaction with the tombstone and with the note that a compaction is due. A
 * crash between two galleries leaves the rest as it was; the same call again goes on.
 */
export class Forgetting {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #compactAfterMs: number;
  readonly #tombstones: Tombstones;
  /** `due-since-ms`, and how often was forgotten: `forgotten`, and of these compacted: `compacted`. */
  readonly #notes: Table<number>;

  constructor(store: Store, clock: Clock, compactAfterMs: number) {
    this.#store = store;
    this.#clock = clock;
    this.#compactAfterMs = compactAfterMs;
    this.#tombstones = new Tombstones(store);
    this.#notes = store.table<number>("forgetting", "data");
  }

  /** @throws {StoreFullError} @throws {StoreReadOnlyError} */
  async forget(
    identity: string,
    { galleries, gallery, requests }: ForgettingScope,
  ): Promise<Forgotten> {
    const forgottenAtUs = Math.round(this.#clock.now() * 1000);
    const tombstone = {
      ...(await this.#tombstones.hashOf(identity)),
      receiptId: randomUUID(),
      gallery,
      forgottenAtUs,
    };
    const rows: HashedRow[] = [];
    const held = new Map<string, number>();
    for (const one of galleries) {
      const found = await one.forget(identity, (writer, rows) => {
        this.#tombstones.put(writer, tombstone);
        if (rows.length === 0) return;
        writer.put(this.#notes, "forgotten", this.#note("forgotten") + 1);
        if (!this.#isWaiting)
          writer.put(this.#notes, "due-since-ms", this.#clock.now());
      });
      if (found.length > 0) held.set(one.name, found.length);
      rows.push(...found);
    }
    // Also where there is no gallery: a backup may hold it.
    if (galleries.length === 0)
      await this.#store.write((writer) =>
        this.#tombstones.put(writer, tombstone),
      );
    await requests.forget(identity);
    return {
      receiptId: tombstone.receiptId,
      forgottenAtUs,
      entryCount: rows.length,
      cropCount: rows.filter(({ hasCrop }) => hasCrop).length,
      galleries: held,
      rows,
    };
  }

  /** Whether bytes of what was forgotten have been on the disk for as long as they may. */
  get isDue(): boolean {
    // Forgotten while the last compaction was under way: nobody has noted since when.
    const since = this.#notes.get("due-since-ms") ?? -Infinity;
    return this.#isWaiting && this.#clock.now() - since >= this.#compactAfterMs;
  }

  /** Takes what was forgotten out of the indexes, then out of the store's file. */
  async compact(galleries: readonly Gallery[]): Promise<void> {
    for (const gallery of galleries) await gallery.compactIndex();
    await this.#compactStore();
  }

  /** The same before anything is open: indexes that are loaded later leave it out by themselves. */
  async compactAtStart(log: Pick<Log, "warn">): Promise<void> {
    if (!this.#isWaiting) return;
    try {
      await this.#compactStore();
    } catch (error) {
      if (!(error instanceof ReidError)) throw error;
      log.warn("what was forgotten stays in the store's free pages for now", {
        error,
      });
    }
  }

  async #compactStore(): Promise<void> {
    // What is forgotten from here on waits for the next one.
    const forgotten = this.#note("forgotten");
    await this.#store.compact();
    await this.#store.write((writer) => {
      writer.put(this.#notes, "compacted", forgotten);
      writer.remove(this.#notes, "due-since-ms");
    });
  }

  get #isWaiting(): boolean {
    return this.#note("forgotten") > this.#note("compacted");
  }

  #note(name: "forgotten" | "compacted"): number {
    return this.#notes.get(name) ?? 0;
  }
}
