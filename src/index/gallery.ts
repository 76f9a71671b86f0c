import { EntryNotFoundError } from "./errors.js";
import { requireConditions } from "./entry-changes.js";
import { checkGallery } from "./gallery-check.js";
import type { GalleryContext } from "./gallery-context.js";
import { GalleryEnding } from "./gallery-ending.js";
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
import type { GallerySnapshots, SnapshotState } from "./gallery-snapshots.js";
import { changedRecord } from "./gallery-update.js";
import { IndexUpkeep } from "./gallery-upkeep.js";
import { hashedRows, type HashedRow } from "./hashed-rows.js";
import { listIdentities, type IdentitiesPage } from "./identities.js";
import { indexKinds, type IndexSpec } from "./index-kinds.js";
import { storedFeatures } from "./remeasure.js";
import { checkQueries, checkSequence } from "./search-checks.js";
import { continuedRecord } from "./restoring.js";
import { Turns } from "./turns.js";
import { GalleryWrites } from "./gallery-writes.js";

/** Enrolments planned in one turn of the main thread: some 4 µs each. */
const plannedAtOnce = 128;

/** One gallery. Every method but `describe` throws ClosedError after `close`, GalleryNotFoundError after deletion. */
export class Gallery {
  readonly #context: GalleryContext;
  readonly #rows: GalleryRows;
  readonly #index: GalleryIndex;
  readonly #writes: GalleryWrites;
  readonly #snapshots: GallerySnapshots;
  readonly #upkeep: IndexUpkeep;
  readonly #ending: GalleryEnding;

  private constructor(
    context: GalleryContext,
    record: GalleryRecord,
    parts: GalleryParts,
  ) {
    const { rows, index, snapshots } = parts;
    this.#context = context;
    this.#rows = rows;
    this.#index = index;
    this.#snapshots = snapshots;
    this.#writes = new GalleryWrites(record, {
      ...{ context, rows, index },
      refusal: () => this.#ending.refusal,
      dismissal: () => this.#ending.dismissal,
      onCommit: () => this.#upkeep.afterCommit(),
    });
    const writes = this.#writes;
    this.#ending = new GalleryEnding({
      ...{ context, index, snapshots, writes },
      saveIndex: () => this.#saveIndex(),
    });
    const ending = this.#ending;
    this.#upkeep = new IndexUpkeep({ ...parts, context, writes, ending });
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
    const state = this.#upkeep.isRebuilding ? "rebuilding" : "ready";
    return {
      ...factsOf(this.#record),
      state: this.#ending.hasBegun ? "closed" : state,
      entryCount: this.#rows.size,
      identityCount: this.#rows.identityCount,
      indexedSequence: Math.min(
        this.#record.sequence,
        this.#index.oldestWaiting - 1,
      ),
      indexBytes: this.#upkeep.sizeBytes,
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
    this.#ending.assertOpen();
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
    this.#ending.assertOpen();
    const { dimension } = this.#record;
    const { minSequence = 0, freshness, signal } = request;
    checkQueries(this.#record, request);
    // An acknowledged write is seen by every later read: only the index itself may have to be waited for.
    checkSequence(this.#record, request);
    if (freshness === "indexed") await this.#index.indexed(minSequence, signal);
    return this.#writes.read(async () => {
      this.#ending.assertOpen();
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
    this.#ending.assertOpen();
    const row = this.#rows.named(entryId);
    if (row === undefined || !this.#isAlive(row))
      throw new EntryNotFoundError(this.name, entryId);
    return this.#entry(row, view);
  }

  /** By sequence. */
  async listEntries(page: EntryPageRequest): Promise<EntryPage> {
    this.#ending.assertOpen();
    return this.#writes.read(async () => {
      this.#ending.assertOpen();
      const { rows, isLast } = await listRows(this.#rows, page, this.#nowUs());
      return {
        entries: rows.map((row) => this.#entry(row, page.view ?? "basic")),
        nextSequence: isLast ? undefined : rows.at(-1)?.sequence,
      };
    });
  }

  /** In byte order. */
  async listIdentities(page: IdentitiesPage): Promise<IdentityPage> {
    this.#ending.assertOpen();
    return this.#writes.read(() => {
      this.#ending.assertOpen();
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
    this.#ending.assertOpen();
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
    this.#ending.assertOpen();
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
    this.#ending.assertOpen();
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
    this.#ending.assertOpen();
    await this.#snapshots.inTurn(() => this.#snapshots.compact(this.#index));
  }

  /** Deletes what has expired. */
  async sweep(): Promise<void> {
    this.#ending.assertOpen();
    if (this.#rows.expired(this.#nowUs()).next().done === true) return;
    await this.#writes.write(1, () => undefined, undefined);
  }

  /** Waits until the index holds every write acknowledged so far. */
  async indexed(): Promise<void> {
    this.#ending.assertOpen();
    await this.#index.indexed(this.#record.sequence);
  }

  /** Writes the index to disk, for a fast start. */
  async snapshot(): Promise<void> {
    this.#ending.assertOpen();
    await this.#snapshots.inTurn(() => {
      this.#ending.assertOpen();
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
    return this.#upkeep.wanted;
  }

  /**
   * Changes what the gallery was made with; durable when it resolves. A new index takes effect with `rebuild`.
   *
   * @throws {StoreFullError} @throws {StoreReadOnlyError}
   */
  async update(changes: GalleryChanges): Promise<void> {
    this.#ending.assertOpen();
    await this.#writes.changeRecord((record) =>
      changedRecord(record, changes, {
        entries: this.#rows.size,
        flatBelow: this.#context.flatBelow,
      }),
    );
  }

  /** Takes back what `update` said of the index: a rebuild that was given up. */
  async keepIndex(): Promise<void> {
    this.#ending.assertOpen();
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
    this.#ending.assertOpen();
    await this.#upkeep.rebuild(options);
  }

  /**
   * Whether index and store agree, no sequence is missing or given twice, norms are one.
   *
   * @param report  told how many entries were compared
   */
  async check(
    report: (doneCount: number) => void = () => undefined,
  ): Promise<GalleryCheck> {
    this.#ending.assertOpen();
    const { tables } = this.#context;
    return this.#writes.alone(() =>
      checkGallery(
        { record: this.#record, rows: this.#rows, index: this.#index, tables },
        report,
      ),
    );
  }

  /** Finishes the writes under way, takes a snapshot where it saves time at the next start; idempotent. */
  close(): Promise<void> {
    return this.#ending.close();
  }

  /**
   * Closes the gallery and removes it from store and disk; used by `GalleryStore`.
   *
   * @throws {StoreFullError} or {StoreReadOnlyError}: then it is open and whole as before
   */
  destroy(): Promise<void> {
    return this.#ending.delete();
  }

  /** Runs an action while no write is under way, with the last sequence given; used by `restoreGalleries`. */
  hold(action: (lastSequence: number) => Promise<void>): Promise<void> {
    this.#ending.assertOpen();
    return this.#writes.alone(() => {
      this.#ending.assertOpen();
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
    return this.#ending.giveWay();
  }

  /** Where that saves time at the next start. */
  async #saveIndex(): Promise<void> {
    const isBuilt = this.unsavedWrites > 0;
    // Compacting what was forgotten would take as long as the rebuild that the next start makes instead.
    if (isBuilt && this.#rows.size > 0 && !this.#snapshots.mustCompact)
      await this.#snapshots.inTurn(() => this.#snapshot());
  }

  async #snapshot(): Promise<void> {
    const { hasSnapshots, clock } = this.#context;
    if (hasSnapshots)
      await this.#snapshots.save(this.#index, this.#record, clock.now());
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
}
