import { ClosedError, type ReidError } from "#core/errors";

import {
  EntryNotFoundError,
  GalleryBusyError,
  GalleryNotFoundError,
} from "./errors.js";
import { requireConditions } from "./entry-changes.js";
import { checkGallery } from "./gallery-check.js";
import type { GalleryContext } from "./gallery-context.js";
import { entryOf, hitsOf, type EntrySource } from "./gallery-entry.js";
import type { GalleryIndex } from "./gallery-index.js";
import { listRows } from "./gallery-listing.js";
import { loadParts, type GalleryParts } from "./gallery-loading.js";
import { factsOf, type GalleryRecord } from "./gallery-records.js";
import type { GalleryRows, Row } from "./gallery-rows.js";
import { searchRanked } from "./gallery-groups.js";
import type {
  DeleteOutcome,
  Enrollment,
  EnrollOptions,
  EnrollOutcome,
  EnrollResult,
  Entry,
  EntryChanges,
  EntryPage,
  EntryPageRequest,
  EntrySelector,
  EntryView,
  GalleryCheck,
  GalleryChanges,
  GalleryDescription,
  IdentityPage,
  InTransaction,
  RebuildOptions,
  SearchOutcome,
  SearchRequest,
  UpdateOutcome,
} from "./gallery-types.js";
import { noteLastSequence, removeEntries } from "./gallery-removal.js";
import { buildBeside, catchUp } from "./gallery-rebuild.js";
import type { GallerySnapshots, SnapshotState } from "./gallery-snapshots.js";
import { changedRecord } from "./gallery-update.js";
import { hashedRows, type HashedRow } from "./hashed-rows.js";
import { listIdentities, type IdentitiesPage } from "./identities.js";
import { hnswDefaults, indexKinds, type IndexSpec } from "./index-kinds.js";
import { storedFeatures } from "./remeasure.js";
import { checkQueries, checkSequence } from "./search-checks.js";
import type { VectorIndex } from "./vector-index.js";
import { continuedRecord } from "./restoring.js";
import { Turns } from "./turns.js";
import { GalleryWrites } from "./gallery-writes.js";

const measureAfterMs = 100;
/** Enrolments planned in one turn of the main thread: some 4 µs each. */
const plannedAtOnce = 128;

/** One gallery. Every method but `describe` throws ClosedError after `close`, GalleryNotFoundError after deletion. */
export class Gallery {
  readonly #context: GalleryContext;
  readonly #rows: GalleryRows;
  readonly #index: GalleryIndex;
  readonly #writes: GalleryWrites;
  readonly #snapshots: GallerySnapshots;
  #indexBytes: number;
  #measuring: NodeJS.Timeout | undefined;
  #rebuilds = 0;
  /** Said once: what comes of it is the listener's. */
  #isOutgrown = false;
  #closed: Promise<void> | undefined;
  /** Why it takes no more calls, where it was not closed for its own sake. */
  #ended: "destroyed" | "replaced" | undefined;

  private constructor(
    context: GalleryContext,
    record: GalleryRecord,
    parts: GalleryParts,
  ) {
    this.#context = context;
    this.#rows = parts.rows;
    this.#index = parts.index;
    this.#writes = new GalleryWrites(record, {
      context,
      rows: this.#rows,
      index: this.#index,
      refusal: () =>
        this.#closed === undefined ? undefined : this.#closedError(),
      // What waited behind a restore would be written over what was restored.
      dismissal: () =>
        this.#ended === "replaced" ? this.#closedError() : undefined,
      onCommit: () => this.#afterCommit(),
    });
    this.#snapshots = parts.snapshots;
    this.#indexBytes = parts.indexBytes;
  }

  /**
   * Loads a gallery that the store holds; used by `GalleryStore`.
   *
   * @param onIndexed  told how many entries a snapshot did not have and the index now has, of how many
   */
  static async load(
    context: GalleryContext,
    record: GalleryRecord,
    onIndexed?: (count: number, of: number) => void,
  ): Promise<Gallery> {
    const parts = await loadParts(context, record, onIndexed);
    return new Gallery(context, record, parts);
  }

  get #record(): GalleryRecord {
    return this.#writes.record;
  }

  get name(): string {
    return this.#record.name;
  }

  /** The gallery as it stands; also after `close`. */
  describe(): GalleryDescription {
    const state = this.#rebuilds > 0 ? "rebuilding" : "ready";
    return {
      ...factsOf(this.#record),
      state: this.#closed === undefined ? state : "closed",
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
    return this.#writes.write(
      enrollments.length,
      async (draft) => {
        const turns = new Turns(plannedAtOnce);
        const results: EnrollResult[] = [];
        for (const enrollment of enrollments) {
          results.push(draft.enroll(enrollment, onExisting));
          if (turns.isOver) await turns.next();
        }
        return { results, sequence: draft.sequence };
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
    const { minSequence = 0, freshness, signal } = request;
    checkQueries(this.#record, request);
    // An acknowledged write is seen by every later read: only the index itself may have to be waited for.
    checkSequence(this.#record, request);
    if (freshness === "indexed") await this.#index.indexed(minSequence, signal);
    return this.#writes.read(async () => {
      this.#assertOpen();
      const { sequence } = this.#record;
      const { tables, exactBelow } = this.#context;
      const index = this.#index;
      const source = { tables, number: this.#record.number, index };
      const scope = {
        rows: this.#rows,
        index,
        nowUs: this.#nowUs(),
        exactBelow,
        features: storedFeatures(source),
      };
      const found = await searchRanked(scope, request, dimension);
      const results = await hitsOf(found, request, source);
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
  async listEntries(page: EntryPageRequest): Promise<EntryPage> {
    this.#assertOpen();
    return this.#writes.read(async () => {
      this.#assertOpen();
      const { rows, isLast } = await listRows(this.#rows, page, this.#nowUs());
      return {
        entries: rows.map((row) => this.#entry(row, page.view ?? "basic")),
        nextSequence: isLast ? undefined : rows.at(-1)?.sequence,
      };
    });
  }

  /** In byte order. */
  async listIdentities(page: IdentitiesPage): Promise<IdentityPage> {
    this.#assertOpen();
    return this.#writes.read(() => {
      this.#assertOpen();
      return listIdentities(this.#rows, page, this.#nowUs());
    });
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
    requireConditions(this.name, selector);
    return this.#writes.write(
      1,
      async (draft) => {
        const deletedCount = await draft.deleteSelected(selector);
        return { deletedCount, sequence: draft.sequence };
      },
      inTransaction,
    );
  }

  /**
   * Gives entries new values, one transaction; each gets a new sequence, and keeps its feature and crop.
   *
   * @throws {FilterEmptyError} a filter without any condition
   */
  async updateEntries(
    selector: EntrySelector,
    changes: EntryChanges,
  ): Promise<UpdateOutcome> {
    this.#assertOpen();
    requireConditions(this.name, selector);
    return this.#writes.write(
      1,
      async (draft) => {
        const updated = await draft.updateSelected(selector, changes);
        return { ...updated, sequence: draft.sequence };
      },
      undefined,
    );
  }

  /**
   * Deletes an identity's entries for good; resolves when that is on disk and no snapshot holds them.
   *
   * Their bytes leave the index and the store's file with `compactIndex` and the store's compaction.
   *
   * @returns the entries, which are gone
   */
  async forget(
    identity: string,
    inTransaction: InTransaction<readonly HashedRow[]>,
  ): Promise<readonly HashedRow[]> {
    this.#assertOpen();
    const forgotten = await this.#writes.write(
      1,
      (draft) => hashedRows(draft.forget(identity), this.#source),
      inTransaction,
    );
    if (forgotten.length > 0)
      await this.#snapshots.inTurn(() => this.#snapshots.forget());
    return forgotten;
  }

  /** The entries of an identity, without features and crops, with the hashes of these. */
  rowsOf(identity: string): readonly HashedRow[] {
    const rows = [...this.#rows.ofIdentity(identity)].flatMap(
      (featureId) => this.#rows.at(featureId) ?? [],
    );
    return hashedRows(rows, this.#source);
  }

  /** Takes what was forgotten out of the index; nothing where nothing was. Searches and writes go on. */
  async compactIndex(): Promise<void> {
    this.#assertOpen();
    await this.#snapshots.inTurn(() => this.#snapshots.compact(this.#index));
  }

  /** Deletes what has expired. */
  async sweep(): Promise<void> {
    this.#assertOpen();
    if (this.#rows.expired(this.#nowUs()).next().done === true) return;
    await this.#writes.write(1, () => undefined, undefined);
  }

  /** Waits until the index holds every write acknowledged so far. */
  async indexed(): Promise<void> {
    this.#assertOpen();
    await this.#index.indexed(this.#record.sequence);
  }

  /** Writes the index to disk, for a fast start. */
  async snapshot(): Promise<void> {
    this.#assertOpen();
    await this.#snapshots.inTurn(() => {
      this.#assertOpen();
      return this.#snapshot();
    });
  }

  /** What the last snapshot holds, and since when. */
  get snapshotState(): SnapshotState {
    return this.#snapshots.state;
  }

  /** Writes that a start would have to link into a graph: a flat index is filled faster than it is read. */
  get unsavedWrites(): number {
    return this.#context.hasSnapshots &&
      !indexKinds[this.#record.index.kind].exact
      ? this.#record.sequence - this.#snapshots.state.sequence
      : 0;
  }

  /** What the index is to be rebuilt to; undefined: it is as it should be. */
  get wantedIndex(): IndexSpec | undefined {
    const { nextIndex, autoIndex, index } = this.#record;
    const isOutgrown =
      autoIndex === true &&
      index.kind === "flat" &&
      this.#rows.size >= this.#context.flatBelow;
    return nextIndex ?? (isOutgrown ? hnswDefaults : undefined);
  }

  /**
   * Changes what the gallery was made with; durable when it resolves. A new index takes effect with `rebuild`.
   *
   * @throws {StoreFullError} @throws {StoreReadOnlyError}
   */
  async update(changes: GalleryChanges): Promise<void> {
    this.#assertOpen();
    await this.#writes.changeRecord((record) =>
      changedRecord(record, changes, {
        entries: this.#rows.size,
        flatBelow: this.#context.flatBelow,
      }),
    );
  }

  /** Takes back what `update` said of the index: a rebuild that was given up. */
  async keepIndex(): Promise<void> {
    this.#assertOpen();
    if (this.#record.nextIndex !== undefined)
      await this.#writes.changeRecord(({ nextIndex: _, ...record }) => record);
  }

  /**
   * Builds the index anew from the store, beside the old one, as it is or as `update` wants it.
   *
   * Searches and writes go on. The new index takes the old one's place in one commit: a crash before it leaves
   * the old one, and the wish for the new.
   *
   * @throws {ClosedError} @throws {StoreFullError} @throws {StoreReadOnlyError}
   */
  async rebuild(options: RebuildOptions = {}): Promise<void> {
    this.#assertOpen();
    const { tables, factory } = this.#context;
    const spec = this.wantedIndex ?? this.#record.index;
    const fresh = factory(spec, this.#record.dimension);
    this.#rebuilds++;
    try {
      const source = { rows: this.#rows, tables, record: this.#record };
      await buildBeside(fresh, source, {
        ...options,
        whileStill: (look) => this.#writes.read(look),
      });
      await this.#snapshots.inTurn(() =>
        this.#writes.alone(() => this.#adopt(fresh, spec, options.signal)),
      );
    } catch (error) {
      await fresh.close();
      throw error;
    } finally {
      this.#rebuilds--;
    }
  }

  /**
   * Whether index and store agree, no sequence is missing or given twice, norms are one.
   *
   * @param report  told how many entries were compared
   */
  async check(
    report: (doneCount: number) => void = () => undefined,
  ): Promise<GalleryCheck> {
    this.#assertOpen();
    const { tables } = this.#context;
    let checked: GalleryCheck | undefined;
    await this.#writes.alone(async () => {
      checked = await checkGallery(
        {
          record: this.#record,
          rows: this.#rows,
          index: this.#index,
          tables,
        },
        report,
      );
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
    this.#ended = "destroyed";
    const removing = (async () => {
      await this.#writes.idle();
      // From here on it is gone for good: what is left of its entries, the next start would remove.
      await store.write((writer) => {
        writer.remove(tables.galleries, name);
        noteLastSequence(writer, tables, this.#record);
      });
    })();
    this.#closed = removing.then(() =>
      this.#snapshots.inTurn(() => this.#removeRest()),
    );
    try {
      await this.#closed;
    } catch (error) {
      await removing.catch(() => {
        this.#ended = undefined;
        this.#closed = undefined;
      });
      throw error;
    }
  }

  /** Runs an action while no write is under way, with the last sequence given; used by `restoreGalleries`. */
  hold(action: (lastSequence: number) => Promise<void>): Promise<void> {
    this.#assertOpen();
    return this.#writes.alone(() => {
      if (this.#closed !== undefined) throw this.#closedError();
      return action(this.#record.sequence);
    });
  }

  /** Goes on from a larger sequence; before it has a place in the store. @returns the record to put there */
  continueFrom(lastSequence: number): GalleryRecord {
    this.#writes.record = continuedRecord(this.#record, lastSequence);
    return this.#record;
  }

  /**
   * Makes way for another gallery that has its name in the store now, or never got it; within `hold` where it served.
   *
   * @returns when its entries are removed; never rejects
   */
  giveWay(): Promise<void> {
    this.#ended = "replaced";
    this.#closed = this.#snapshots.inTurn(() => this.#removeRest());
    return this.#closed;
  }

  /** Of a gallery whose record is gone. */
  async #removeRest(): Promise<void> {
    const { store, tables, log } = this.#context;
    await this.#writes.exclusive(() => this.#index.close());
    try {
      await this.#snapshots.remove();
      await removeEntries(store, tables, this.#record.number);
    } catch (error) {
      log.warn("what is left of a deleted gallery stays until the next start", {
        gallery: this.name,
        error,
      });
    }
  }

  async #close(): Promise<void> {
    await this.#writes.idle();
    const { log } = this.#context;
    const isBuilt = this.unsavedWrites > 0;
    // Compacting what was forgotten would take as long as the rebuild that the next start makes instead.
    if (isBuilt && this.#rows.size > 0 && !this.#snapshots.mustCompact) {
      try {
        await this.#snapshots.inTurn(() => this.#snapshot());
      } catch (error) {
        // The index is a cache: without a snapshot the next start takes longer, and nothing is lost.
        log.warn("no snapshot at close, the next start rebuilds the index", {
          gallery: this.name,
          error,
        });
      }
    }
    await this.#writes.exclusive(() => this.#index.close());
  }

  async #snapshot(): Promise<void> {
    const { hasSnapshots, clock } = this.#context;
    if (hasSnapshots)
      await this.#snapshots.save(this.#index, this.#record, clock.now());
  }

  /** Puts a new index in place while no write is under way. */
  async #adopt(
    fresh: VectorIndex,
    spec: IndexSpec,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { tables, store } = this.#context;
    if (this.#closed !== undefined) throw this.#closedError();
    const source = { rows: this.#rows, tables, record: this.#record };
    // Few by now: searches go on, and writes wait for them.
    await catchUp(fresh, source);
    signal?.throwIfAborted();
    const { nextIndex: _, ...rest } = this.#record;
    const record = { ...rest, index: spec };
    await store.write((writer) => {
      writer.put(tables.galleries, record.name, record);
    });
    this.#writes.record = record;
    await this.#writes.exclusive(() => this.#index.replace(fresh));
    this.#indexBytes = (await this.#index.facts()).sizeBytes;
    // They are of the old index, and one of the same sequence would be taken for the new one's.
    await this.#snapshots.remove();
  }

  #afterCommit(): void {
    this.#measureIndex();
    if (!this.#isOutgrown && this.wantedIndex !== undefined) {
      this.#isOutgrown = true;
      this.#context.onOutgrown(this.name);
    }
  }

  /** Behind the writes, which do not wait for what only `describe` says, and not after each of hundreds a second. */
  #measureIndex(): void {
    this.#measuring ??= setTimeout(() => {
      this.#measuring = undefined;
      this.#index.facts().then(
        ({ sizeBytes }) => {
          this.#indexBytes = sizeBytes;
        },
        // Closed meanwhile.
        () => undefined,
      );
    }, measureAfterMs).unref();
  }

  #entry(row: Row, view: EntryView): Entry {
    return entryOf(row, view, this.#source);
  }

  get #source(): EntrySource {
    return { tables: this.#context.tables, number: this.#record.number };
  }

  #isAlive(row: Row): boolean {
    return (row.expiresAtUs ?? Infinity) > this.#nowUs();
  }

  #nowUs(): number {
    return Math.round(this.#context.clock.now() * 1000);
  }

  #closedError(): ReidError {
    switch (this.#ended) {
      case "destroyed":
        return new GalleryNotFoundError(this.name);
      case "replaced":
        return new GalleryBusyError(this.name, "being restored");
      case undefined:
        return new ClosedError(`gallery "${this.name}"`);
    }
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw this.#closedError();
  }
}
