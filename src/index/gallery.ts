import type { Clock } from "#core/clock";
import type { Store } from "#core/store";

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
  GallerySpec,
  IndexLog,
  InTransaction,
  SearchOutcome,
  SearchRequest,
} from "./gallery-types.js";
import type { Filter } from "./filter.js";
import type { RequestLog } from "./request-log.js";

/** Settings of all galleries of a data folder. */
export interface GalleryStoreOptions {
  readonly clock: Clock;
  readonly log: IndexLog;
  /** Filtered searches with fewer survivors are exact. Default 20,000. */
  readonly exactBelow?: number;
  /** Entries that may wait for the index before writes slow down. Default 20,000. */
  readonly tail?: number;
  /** Default 256. */
  readonly maxGalleries?: number;
  /** Random bytes for ULIDs; default the system's. */
  readonly entryIds?: () => string;
}

/** The galleries of one data folder. */
export declare class GalleryStore {
  private constructor();
  /** Opens every gallery of the store: loads or rebuilds each index and catches it up. */
  static open(
    store: Store,
    options: GalleryStoreOptions,
  ): Promise<GalleryStore>;
  readonly requests: RequestLog;
  /** @throws {GalleryExistsError} {GalleryLimitError} {StoreFullError} */
  create(
    spec: GallerySpec,
    inTransaction?: InTransaction<GalleryDescription>,
  ): Promise<Gallery>;
  /** @throws {GalleryNotFoundError} */
  get(name: string): Gallery;
  /** By name. */
  list(): readonly Gallery[];
  /** Entries, kept crops, index, snapshots. @throws {GalleryNotFoundError} */
  delete(name: string): Promise<void>;
  /** Writes snapshots of indexes that moved, closes every gallery (not the store); idempotent. */
  close(): Promise<void>;
}

/** One gallery. Every method but `describe` throws ClosedError after `close` or deletion. */
export declare class Gallery {
  private constructor();
  readonly name: string;
  describe(): GalleryDescription;
  /**
   * Writes entries, one transaction; resolves when they are on disk and every later read sees them.
   *
   * Items fail one by one (FEATURE_DIMENSION, GALLERY_FULL, ENTRY_EXISTS) in their result.
   *
   * @throws {StoreFullError} {StoreReadOnlyError} {ClosedError}
   */
  enroll(
    enrollments: readonly Enrollment[],
    options?: EnrollOptions,
  ): Promise<EnrollOutcome>;
  /** @throws {FeatureDimensionError} {SequenceAheadError} {SearchCancelledError} */
  search(request: SearchRequest): Promise<SearchOutcome>;
  /** @throws {EntryNotFoundError} */
  getEntry(entryId: string, view?: EntryView): Entry;
  /** By sequence. */
  listEntries(page: {
    readonly filter?: Filter;
    readonly view?: EntryView;
    readonly afterSequence?: number;
    readonly pageSize: number;
  }): EntryPage;
  /** @throws {FilterEmptyError} */
  deleteEntries(
    selector: EntrySelector,
    inTransaction?: InTransaction<DeleteOutcome>,
  ): Promise<DeleteOutcome>;
  /** Waits until the index holds every write acknowledged so far. */
  indexed(): Promise<void>;
  /** Writes the index to disk, for a fast start. */
  snapshot(): Promise<void>;
  /** Builds the index anew from the store, beside the old one. */
  rebuild(): Promise<void>;
  /** Whether index and store agree, no sequence is missing or given twice, norms are one. */
  check(): Promise<GalleryCheck>;
  close(): Promise<void>;
}
