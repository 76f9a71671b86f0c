import { join } from "node:path";

import type { Clock } from "#core/clock";
import { ClosedError, type ReidError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store, Writer } from "#core/store";

import {
  EntryNotFoundError,
  FeatureDimensionError,
  FilterEmptyError,
  GalleryNotFoundError,
  SequenceAheadError,
} from "./errors.js";
import type { Filter } from "./filter.js";
import { hasConditions, passes } from "./filter-walk.js";
import { checkGallery } from "./gallery-check.js";
import { GalleryDraft } from "./gallery-draft.js";
import { GalleryIndex, type IndexFactory } from "./gallery-index.js";
import { catchUp, loadIndex, loadRows } from "./gallery-loading.js";
import {
  featureFromBytes,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { GalleryRows, Row } from "./gallery-rows.js";
import { searchRows } from "./gallery-search.js";
import type {
  DeleteOutcome,
  Enrollment,
  EnrollOptions,
  EnrollOutcome,
  Entry,
  EntryPage,
  EntrySelector,
  EntryView,
  GalleryCheck,
  GalleryDescription,
  GalleryState,
  InTransaction,
  SearchOutcome,
  SearchRequest,
} from "./gallery-types.js";
import { removeEntries } from "./gallery-removal.js";
import { indexKinds } from "./index-kinds.js";
import { ReadWriteGate } from "./read-write-gate.js";
import { deleteSnapshots, saveSnapshot } from "./snapshot.js";

/** What every gallery of a data folder shares. */
export interface GalleryContext {
  readonly store: Store;
  readonly tables: GalleryTables;
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
  readonly factory: IndexFactory;
  /** Whether indexes can be saved and loaded: not without the addon. */
  readonly hasSnapshots: boolean;
  readonly exactBelow: number;
  readonly tail: number;
  readonly onExpire: (gallery: string, entries: number) => void;
  readonly newEntryId: () => string;
}

interface PendingWrite {
  readonly items: number;
  plan(draft: GalleryDraft): void;
  inTransaction(writer: Writer): void;
  resolve(): void;
  reject(error: unknown): void;
  /** Instead of a write: runs while no write is under way. */
  readonly alone?: () => Promise<void>;
}

// One transaction takes what has queued up behind the last: enrollments of several calls share a flush.
const itemsInTransaction = 1024;

/** One gallery. Every method but `describe` throws ClosedError after `close`, GalleryNotFoundError after deletion. */
export class Gallery {
  readonly #context: GalleryContext;
  readonly #rows: GalleryRows;
  readonly #index: GalleryIndex;
  readonly #gate = new ReadWriteGate();
  readonly #queue: PendingWrite[] = [];
  #record: GalleryRecord;
  #committing: Promise<void> | undefined;
  #snapshotSequence: number;
  /** Snapshots and what takes the index away from under them, one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #indexBytes = 0;
  #state: GalleryState = "ready";
  #closed: Promise<void> | undefined;
  #isDestroyed = false;

  private constructor(
    context: GalleryContext,
    record: GalleryRecord,
    rows: GalleryRows,
    loaded: { index: GalleryIndex; snapshotSequence: number },
  ) {
    this.#context = context;
    this.#record = record;
    this.#rows = rows;
    this.#index = loaded.index;
    this.#snapshotSequence = loaded.snapshotSequence;
  }

  /** Loads a gallery that the store holds; used by `GalleryStore`. */
  static async load(
    context: GalleryContext,
    record: GalleryRecord,
  ): Promise<Gallery> {
    const { tables, factory, hasSnapshots, log } = context;
    const rows = loadRows(tables, record);
    const snapshots = snapshotFolder(context.store, record);
    const { index: main, snapshotSequence } = await loadIndex(record, {
      snapshots,
      factory,
      log,
      hasSnapshots,
    });
    await catchUp(main, rows, { record, tables });
    const tail = factory({ kind: "flat" }, record.dimension);
    const index = new GalleryIndex(
      main,
      tail,
      (id) => rows.at(id) !== undefined,
    );
    const gallery = new Gallery(context, record, rows, {
      index,
      snapshotSequence,
    });
    gallery.#indexBytes = (await index.facts()).sizeBytes;
    return gallery;
  }

  get name(): string {
    return this.#record.name;
  }

  /** The gallery as it stands; also after `close`. */
  describe(): GalleryDescription {
    const {
      number: _number,
      writtenCount: _written,
      replacedCount: _replaced,
      deletedCount: _deleted,
      ...facts
    } = this.#record;
    return {
      ...facts,
      state: this.#closed === undefined ? this.#state : "closed",
      entryCount: this.#rows.size,
      identityCount: this.#rows.identityCount,
      indexedSequence: Math.min(
        this.#record.sequence,
        this.#index.oldestWaiting - 1,
      ),
      indexBytes: this.#indexBytes,
    };
  }

  /**
   * Writes entries, one transaction; resolves when they are on disk and every later read sees them.
   *
   * Items fail one by one (FEATURE_DIMENSION, GALLERY_FULL, ENTRY_EXISTS) in their result.
   *
   * @throws {StoreFullError} too little space on the disk
   * @throws {StoreReadOnlyError} the disk takes no writes
   * @throws {ClosedError}
   */
  async enroll(
    enrollments: readonly Enrollment[],
    options: EnrollOptions = {},
  ): Promise<EnrollOutcome> {
    const { onExisting = "replace", inTransaction } = options;
    this.#assertOpen();
    await this.#index.room(this.#context.tail);
    return this.#write(
      enrollments.length,
      (draft) => {
        const results = enrollments.map((enrollment) =>
          draft.enroll(enrollment, onExisting),
        );
        return { results, sequence: draft.record.sequence };
      },
      inTransaction,
    );
  }

  /**
   * The nearest entries of each query; without queries, what every search says of the gallery.
   *
   * @throws {FeatureDimensionError} queries are not [Q, D]
   * @throws {SequenceAheadError} `minSequence` is beyond the last write
   * @throws {SearchCancelledError} the signal fired
   */
  async search(request: SearchRequest): Promise<SearchOutcome> {
    this.#assertOpen();
    const { dimension } = this.#record;
    const { queries, minSequence = 0, view = "basic", freshness } = request;
    if (queries.length % dimension !== 0)
      throw new FeatureDimensionError(this.name, dimension, queries.length);
    // An acknowledged write is seen by every later read: only the index itself may have to be waited for.
    if (minSequence > this.#record.sequence)
      throw new SequenceAheadError(
        this.name,
        minSequence,
        this.#record.sequence,
      );
    if (freshness === "indexed") await this.#index.indexed(minSequence);
    return this.#gate.read(async () => {
      this.#assertOpen();
      const { sequence } = this.#record;
      const { exactBelow } = this.#context;
      const found = await searchRows(
        {
          rows: this.#rows,
          index: this.#index,
          nowUs: this.#nowUs(),
          exactBelow,
        },
        request,
        dimension,
      );
      const results = found.map(({ rows, exact }) => ({
        hits: rows.map(({ row, similarity }) => ({
          entry: this.#entry(row, view),
          similarity,
        })),
        exact,
      }));
      return { results, sequence };
    });
  }

  /** @throws {EntryNotFoundError} */
  async getEntry(entryId: string, view: EntryView = "basic"): Promise<Entry> {
    this.#assertOpen();
    const row = this.#rows.named(entryId);
    if (row === undefined || !this.#isAlive(row))
      throw new EntryNotFoundError(this.name, entryId);
    return this.#entry(row, view);
  }

  /** By sequence. */
  async listEntries(page: {
    readonly filter?: Filter;
    readonly view?: EntryView;
    readonly afterSequence?: number;
    readonly pageSize: number;
  }): Promise<EntryPage> {
    this.#assertOpen();
    const { view = "basic", afterSequence = 0, pageSize } = page;
    const holds = passes([page.filter]);
    const found: Row[] = [];
    for (const row of this.#rows.all()) {
      if (row.sequence <= afterSequence || !this.#isAlive(row) || !holds(row))
        continue;
      found.push(row);
      if (found.length > pageSize) break;
    }
    const rows = found.slice(0, pageSize);
    return {
      entries: rows.map((row) => this.#entry(row, view)),
      nextSequence: found.length > pageSize ? rows.at(-1)?.sequence : undefined,
    };
  }

  /**
   * Deletes entries, one transaction; what is not there is no error.
   *
   * @throws {FilterEmptyError} a filter without any condition
   */
  async deleteEntries(
    selector: EntrySelector,
    inTransaction?: InTransaction<DeleteOutcome>,
  ): Promise<DeleteOutcome> {
    this.#assertOpen();
    if ("filter" in selector && !hasConditions(selector.filter))
      throw new FilterEmptyError(this.name);
    return this.#write(
      1,
      (draft) => {
        const deletedCount = draft.deleteSelected(selector);
        return { deletedCount, sequence: draft.record.sequence };
      },
      inTransaction,
    );
  }

  /** Deletes what has expired. */
  async sweep(): Promise<void> {
    this.#assertOpen();
    if (this.#rows.expired(this.#nowUs()).length === 0) return;
    await this.#write(1, () => undefined, undefined);
  }

  /** Waits until the index holds every write acknowledged so far. */
  async indexed(): Promise<void> {
    this.#assertOpen();
    await this.#index.indexed(this.#record.sequence);
  }

  /** Writes the index to disk, for a fast start. */
  async snapshot(): Promise<void> {
    this.#assertOpen();
    await this.#inTurn(() => {
      this.#assertOpen();
      return this.#snapshot();
    });
  }

  /** Builds the index anew from the store, beside the old one. */
  async rebuild(): Promise<void> {
    this.#assertOpen();
    const { tables, factory } = this.#context;
    this.#state = "rebuilding";
    try {
      const record = this.#record;
      const fresh = factory(record.index, record.dimension);
      await catchUp(fresh, this.#rows, { record, tables });
      await this.#inTurn(async () => {
        if (this.#closed !== undefined) {
          await fresh.close();
          throw this.#closedError();
        }
        await this.#alone(() =>
          this.#gate.write(async () => {
            await this.#index.settle();
            await catchUp(fresh, this.#rows, { record, tables });
            await this.#index.replace(fresh);
          }),
        );
      });
    } finally {
      this.#state = "ready";
    }
  }

  /** Whether index and store agree, no sequence is missing or given twice, norms are one. */
  async check(): Promise<GalleryCheck> {
    this.#assertOpen();
    const { tables } = this.#context;
    let checked: GalleryCheck | undefined;
    await this.#alone(async () => {
      checked = await checkGallery({
        record: this.#record,
        rows: this.#rows,
        index: this.#index,
        tables,
      });
    });
    if (checked === undefined) throw this.#closedError();
    return checked;
  }

  /** Finishes the writes under way, takes a snapshot where it saves time at the next start; idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /**
   * Closes the gallery and removes it from store and disk; used by `GalleryStore`.
   *
   * @throws {StoreFullError} or {StoreReadOnlyError}: then it is open and whole as before
   */
  async destroy(): Promise<void> {
    this.#assertOpen();
    const { store, tables } = this.#context;
    const { name } = this.#record;
    this.#isDestroyed = true;
    const removing = (async () => {
      await this.#committing;
      // From here on it is gone for good: what is left of its entries, the next start would remove.
      await store.write((writer) => {
        writer.remove(tables.galleries, name);
      });
    })();
    this.#closed = removing.then(() => this.#inTurn(() => this.#removeRest()));
    try {
      await this.#closed;
    } catch (error) {
      await removing.catch(() => {
        this.#isDestroyed = false;
        this.#closed = undefined;
      });
      throw error;
    }
  }

  /** Of a gallery whose record is gone. */
  async #removeRest(): Promise<void> {
    const { store, tables, log } = this.#context;
    await this.#gate.write(() => this.#index.close());
    try {
      await deleteSnapshots(snapshotFolder(store, this.#record));
      await removeEntries(store, tables, this.#record.number);
    } catch (error) {
      log.warn("what is left of a deleted gallery stays until the next start", {
        gallery: this.name,
        error,
      });
    }
  }

  async #close(): Promise<void> {
    await this.#committing;
    const { log } = this.#context;
    const isBuilt = !indexKinds[this.#record.index.kind].exact;
    if (isBuilt && this.#rows.size > 0) {
      try {
        await this.#inTurn(() => this.#snapshot());
      } catch (error) {
        // The index is a cache: without a snapshot the next start takes longer, and nothing is lost.
        log.warn("no snapshot at close, the next start rebuilds the index", {
          gallery: this.name,
          error,
        });
      }
    }
    await this.#gate.write(() => this.#index.close());
  }

  async #snapshot(): Promise<void> {
    const { hasSnapshots, store } = this.#context;
    const { sequence } = this.#record;
    if (!hasSnapshots || sequence === this.#snapshotSequence) return;
    await this.#index.indexed(sequence);
    await saveSnapshot(snapshotFolder(store, this.#record), this.#index.main, {
      name: this.name,
      sequence,
    });
    this.#snapshotSequence = sequence;
  }

  #inTurn(action: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(action);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #write<Outcome>(
    items: number,
    plan: (draft: GalleryDraft) => Outcome,
    inTransaction: InTransaction<Outcome> | undefined,
  ): Promise<Outcome> {
    // It may have been closed or deleted while the caller waited for room.
    this.#assertOpen();
    return new Promise<Outcome>((resolve, reject) => {
      let outcome: Outcome;
      this.#enqueue({
        items,
        plan: (draft) => {
          outcome = plan(draft);
        },
        inTransaction: (writer) => inTransaction?.(writer, outcome),
        resolve: () => {
          resolve(outcome);
        },
        reject,
      });
    });
  }

  #alone(action: () => Promise<void>): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#enqueue({
        items: itemsInTransaction,
        plan: () => undefined,
        inTransaction: () => undefined,
        resolve,
        reject,
        alone: action,
      });
    });
  }

  #enqueue(write: PendingWrite): void {
    this.#queue.push(write);
    this.#committing ??= this.#commitAll().finally(() => {
      this.#committing = undefined;
    });
  }

  async #commitAll(): Promise<void> {
    // Calls of the same turn share the transaction.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const group = this.#takeGroup();
      try {
        const alone = group[0]?.alone;
        if (alone === undefined) await this.#commit(group);
        else await alone();
        for (const write of group) write.resolve();
      } catch (error) {
        for (const write of group) write.reject(error);
      }
    }
  }

  #takeGroup(): PendingWrite[] {
    const group: PendingWrite[] = [];
    let items = 0;
    for (;;) {
      const next = this.#queue[0];
      if (next === undefined) return group;
      items += next.items;
      if (group.length > 0 && items > itemsInTransaction) return group;
      group.push(next);
      this.#queue.shift();
      if (next.alone !== undefined) return group;
    }
  }

  async #commit(group: readonly PendingWrite[]): Promise<void> {
    const { store, tables, newEntryId, onExpire } = this.#context;
    const nowUs = this.#nowUs();
    const draft = new GalleryDraft(this.#rows, this.#record, {
      nowUs,
      newEntryId,
    });
    const expired = draft.sweep();
    for (const write of group) write.plan(draft);
    await store.write((writer) => {
      draft.write(writer, tables);
      for (const write of group) write.inTransaction(writer);
    });
    if (expired > 0) onExpire(this.name, expired);
    // From here on it is durable; searches see it whole or not at all.
    await this.#gate.write(async () => {
      this.#record = draft.record;
      const { added, features, removed } = draft.apply();
      await this.#index.remove(removed);
      await this.#index.append(added, features);
    });
    this.#indexBytes = (await this.#index.facts()).sizeBytes;
  }

  #entry(row: Row, view: EntryView): Entry {
    const { hasCrop, attributes, capturedAtUs, expiresAtUs, ...rest } = row;
    const { tables } = this.#context;
    const key = [this.#record.number, row.sequence];
    const feature = view === "feature" ? tables.features.get(key) : undefined;
    const crop = view === "crop" && hasCrop ? tables.crops.get(key) : undefined;
    return {
      ...rest,
      attributes: view === "basic" ? {} : attributes,
      ...(capturedAtUs === undefined ? {} : { capturedAtUs }),
      ...(expiresAtUs === undefined ? {} : { expiresAtUs }),
      ...(feature === undefined ? {} : { feature: featureFromBytes(feature) }),
      ...(crop === undefined ? {} : { crop }),
    };
  }

  #isAlive(row: Row): boolean {
    return (row.expiresAtUs ?? Infinity) > this.#nowUs();
  }

  #nowUs(): number {
    return Math.round(this.#context.clock.now() * 1000);
  }

  #closedError(): ReidError {
    return this.#isDestroyed
      ? new GalleryNotFoundError(this.name)
      : new ClosedError(`gallery "${this.name}"`);
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw this.#closedError();
  }
}

/** Where a gallery's snapshots are: by its number, which is never used again. */
export function snapshotFolder(
  store: Store,
  { number }: Pick<GalleryRecord, "number">,
): string {
  return join(store.folder, "snapshots", String(number));
}
