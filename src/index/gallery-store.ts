import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { ClosedError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store } from "#core/store";
import { StoreCorruptError } from "#core/store-errors";

import { openBinding, type Binding, type BindingName } from "./binding.js";
import {
  GalleryExistsError,
  GalleryLimitError,
  GalleryNotFoundError,
} from "./errors.js";
import { Forgetting, type Forgotten } from "./forgetting.js";
import { Gallery } from "./gallery.js";
import type { GalleryContext } from "./gallery-context.js";
import {
  galleryTables,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import { orphans, removeEntries } from "./gallery-removal.js";
import { restoreGalleries, type RestoreOptions } from "./gallery-restore.js";
import {
  defaultMaxGalleries,
  gallerySettings,
  sweepEveryMs,
  type GallerySettingsGiven,
} from "./gallery-settings.js";
import type {
  GalleryDescription,
  GallerySpec,
  InTransaction,
} from "./gallery-types.js";
import { flatSpec, hnswDefaults } from "./index-kinds.js";
import { StoreRequestLog } from "./request-log.js";
import { deleteSnapshots } from "./snapshot.js";
import { SnapshotSchedule, type SnapshotRules } from "./snapshot-schedule.js";
import { isGalleryRecord } from "./stored-records.js";

/** Settings of all galleries of a data folder. */
export interface GalleryStoreOptions extends GallerySettingsGiven {
  /** How long the bytes of what was forgotten may stay on the disk while nothing starts anew. Default 1 h. */
  readonly compactAfterMs?: number;
  /** When indexes are saved in the background; default: only when they are closed. */
  readonly snapshots?: SnapshotRules;
  /** Default 256. */
  readonly maxGalleries?: number;
  /** Told, at opening, how many of the entries that an index lacked it has now. */
  readonly onIndexed?: (
    gallery: string,
    doneCount: number,
    totalCount: number,
  ) => void;
  /** What searches: one of those there are, or its name; default `auto`. */
  readonly binding?: Binding | BindingName | "auto";
}

/** The galleries of one data folder. */
export class GalleryStore {
  readonly requests: StoreRequestLog;
  readonly #store: Store;
  readonly #context: GalleryContext;
  readonly #maxGalleries: number;
  readonly #galleries = new Map<string, Gallery>();
  readonly #making = new Set<string>();
  readonly #forgetting: Forgetting;
  readonly #snapshots: SnapshotSchedule;
  readonly #sweeper: NodeJS.Timeout;
  #closed: Promise<void> | undefined;

  private constructor(store: Store, options: GalleryStoreOptions) {
    const { clock, log, binding = "auto" } = options;
    this.#store = store;
    this.#maxGalleries = options.maxGalleries ?? defaultMaxGalleries;
    this.requests = new StoreRequestLog(store, clock);
    this.#forgetting = new Forgetting(
      store,
      clock,
      options.compactAfterMs ?? 3_600_000,
    );
    this.#snapshots = new SnapshotSchedule(
      options.snapshots ?? { writes: 0, afterMs: 0 },
      clock,
      log,
    );
    const { factory, hasSnapshots } =
      typeof binding === "object" ? binding : openBinding(binding, log);
    this.#context = {
      ...gallerySettings(options),
      store,
      tables: galleryTables(store),
      ...{ factory, hasSnapshots },
    };
    this.#sweeper = setInterval(() => {
      this.sweep().catch((error: unknown) => {
        log.warn("expired entries stay for now", { error });
      });
    }, sweepEveryMs);
    this.#sweeper.unref();
  }

  /**
   * Opens every gallery of the store: loads or rebuilds each index and catches it up.
   *
   * The store stays the caller's: close it after this.
   *
   * @throws {BindingMissingError} the binding that is named is not there
   * @throws {StoreCorruptError} a gallery's record or an entry is damaged
   */
  static async open(
    store: Store,
    options: GalleryStoreOptions,
  ): Promise<GalleryStore> {
    const galleries = new GalleryStore(store, options);
    const { tables } = galleries.#context;
    await galleries.#forgetting.compactAtStart(options.log);
    const numbers = new Set<number>();
    for (const { key, value } of [...tables.galleries.range()]) {
      if (!isGalleryRecord(value, key))
        throw new StoreCorruptError(
          store.folder,
          `the record of gallery "${String(key)}" is damaged`,
        );
      numbers.add(value.number);
      let done = 0;
      const gallery = await Gallery.load(
        galleries.#context,
        value,
        (count, of) => options.onIndexed?.(value.name, (done += count), of),
      );
      galleries.#galleries.set(value.name, gallery);
    }
    await removeOrphans(store, tables, { numbers, log: options.log });
    return galleries;
  }

  /**
   * Makes a gallery; durable when it resolves.
   *
   * @throws {GalleryExistsError} the name is taken
   * @throws {GalleryLimitError} there are as many as may be
   * @throws {StoreFullError} too little space on the disk
   */
  async create(
    spec: GallerySpec,
    inTransaction?: InTransaction<GalleryDescription>,
  ): Promise<Gallery> {
    this.#assertOpen();
    const { name } = spec;
    if (this.#galleries.has(name) || this.#making.has(name))
      throw new GalleryExistsError(name);
    if (this.#galleries.size + this.#making.size >= this.#maxGalleries)
      throw new GalleryLimitError(this.#maxGalleries);
    this.#making.add(name);
    try {
      const { store, tables, clock } = this.#context;
      const number = this.#nextNumber();
      const record: GalleryRecord = {
        name,
        number,
        model: spec.model,
        dimension: spec.dimension,
        modelPolicy: spec.modelPolicy ?? "pinned",
        ...(spec.index === "auto"
          ? { index: flatSpec, autoIndex: true as const }
          : { index: spec.index ?? hnswDefaults }),
        cropRetention: spec.cropRetention ?? "none",
        defaultTtlMs: spec.defaultTtlMs,
        maxEntries: spec.maxEntries ?? 1_000_000,
        tags: spec.tags ?? {},
        createdAtUs: Math.round(clock.now() * 1000),
        sequence: 0,
        writtenCount: 0,
        replacedCount: 0,
        deletedCount: 0,
      };
      const gallery = await Gallery.load(this.#context, record);
      try {
        await store.write((writer) => {
          writer.put(tables.galleries, name, record);
          writer.put(tables.counters, "next-number", number + 1);
          inTransaction?.(writer, gallery.describe());
        });
      } catch (error) {
        await gallery.close();
        throw error;
      }
      this.#galleries.set(name, gallery);
      return gallery;
    } finally {
      this.#making.delete(name);
    }
  }

  /**
   * Puts galleries of another store in place of those of their names, all in one commit; until then the present
   * ones serve.
   *
   * @param copy  a backup's store; only read
   * @param plan  name in the copy → name here
   * @throws {GalleryNotFoundError} the copy has none of that name
   * @throws {GalleryExistsError} a gallery of that name is being made or restored
   * @throws {GalleryLimitError} @throws {StoreFullError} @throws the signal's reason
   */
  async restore(
    copy: Store,
    plan: ReadonlyMap<string, string>,
    options: RestoreOptions,
  ): Promise<readonly Gallery[]> {
    this.#assertOpen();
    const names = [...plan.values()];
    for (const name of names)
      if (this.#making.has(name)) throw new GalleryExistsError(name);
    const fresh = names.filter((name) => !this.#galleries.has(name));
    if (this.#galleries.size + fresh.length > this.#maxGalleries)
      throw new GalleryLimitError(this.#maxGalleries);
    for (const name of names) this.#making.add(name);
    try {
      return await restoreGalleries(
        {
          context: this.#context,
          nextNumber: () => this.#nextNumber(),
          find: (name) => this.#galleries.get(name),
          place: (gallery) => this.#galleries.set(gallery.name, gallery),
        },
        { copy, plan },
        options,
      );
    } finally {
      for (const name of names) this.#making.delete(name);
    }
  }

  /** @throws {GalleryNotFoundError} */
  async get(name: string): Promise<Gallery> {
    this.#assertOpen();
    const gallery = this.#galleries.get(name);
    if (gallery === undefined) throw new GalleryNotFoundError(name);
    return gallery;
  }

  /** By name. */
  async list(): Promise<readonly Gallery[]> {
    return this.known();
  }

  /** What this process knows of without asking the store, by name; for metrics and health. */
  known(): readonly Gallery[] {
    this.#assertOpen();
    return [...this.#galleries.values()].sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
  }

  /** They are in this process: always. */
  answers(): Promise<boolean> {
    return Promise.resolve(true);
  }

  /**
   * Entries, kept crops, index, snapshots.
   *
   * @throws {GalleryNotFoundError}
   * @throws {StoreFullError} or {StoreReadOnlyError}: then nothing is deleted
   */
  async delete(name: string): Promise<void> {
    const gallery = await this.get(name);
    this.#galleries.delete(name);
    this.#making.add(name);
    try {
      await gallery.destroy();
    } catch (error) {
      const isWhole = gallery.describe().state !== "closed";
      if (isWhole) this.#galleries.set(name, gallery);
      throw error;
    } finally {
      this.#making.delete(name);
    }
  }

  /**
   * Forgets an identity: its entries and kept crops, the answers that name it, and snapshots that hold it.
   *
   * @param gallery  undefined: in every gallery
   * @throws {GalleryNotFoundError} @throws {StoreFullError} @throws {StoreReadOnlyError}
   */
  async forget(identity: string, gallery?: string): Promise<Forgotten> {
    this.#assertOpen();
    const galleries =
      gallery === undefined ? this.known() : [await this.get(gallery)];
    return this.#forgetting.forget(identity, {
      galleries,
      gallery: gallery ?? "",
      requests: this.requests,
    });
  }

  /** Leaves out of indexes and store, and so of the disk, what has been forgotten; searches go on, writes wait. */
  async compact(): Promise<void> {
    this.#assertOpen();
    await this.#forgetting.compact(this.known());
  }

  /** Deletes expired entries and old request ids, compacts and takes snapshots where it is time; runs by itself twice a minute. */
  async sweep(): Promise<void> {
    if (this.#closed !== undefined) return;
    for (const gallery of this.known()) await gallery.sweep();
    await this.requests.sweep();
    if (this.#forgetting.isDue) await this.#forgetting.compact(this.known());
    // Not waited for: what has expired is deleted within a minute, whatever a snapshot takes.
    void this.#snapshots.take(this.known());
  }

  /** Writes snapshots of indexes that moved, closes every gallery (not the store); idempotent. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      clearInterval(this.#sweeper);
      for (const gallery of this.#galleries.values()) await gallery.close();
    })();
    return this.#closed;
  }

  /** Numbers are given once, also when the gallery of one is gone; the next is stored with the gallery. */
  #nextNumber(): number {
    const stored = this.#context.tables.counters.get("next-number") ?? 1;
    this.#lastNumber = Math.max(stored, this.#lastNumber + 1);
    return this.#lastNumber;
  }

  #lastNumber = 0;

  #assertOpen(): void {
    if (this.#closed !== undefined)
      throw new ClosedError(`galleries of ${this.#store.folder}`);
  }
}

/** Entries and snapshots of galleries whose deletion was cut off behind the record's. */
async function removeOrphans(
  store: Store,
  tables: GalleryTables,
  {
    numbers,
    log,
  }: {
    readonly numbers: ReadonlySet<number>;
    readonly log: Pick<Log, "warn">;
  },
): Promise<void> {
  try {
    for (const number of orphans(tables, numbers))
      await removeEntries(store, tables, number);
  } catch (error) {
    // The disk takes no writes: they are found again, and nobody sees them until then.
    log.warn("what is left of deleted galleries stays for now", { error });
  }
  const folder = join(store.folder, "snapshots");
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  for (const name of names)
    if (!numbers.has(Number(name))) await deleteSnapshots(join(folder, name));
}
