import type { ReidError } from "#core/errors";
import type { Writer } from "#core/store";

import type { Filter, TimeRange } from "./filter.js";
import type { IndexSpec } from "./index-kinds.js";

/** An encoder's name and version; version ≥ 1. */
export interface ModelVersion {
  readonly name: string;
  readonly version: number;
}

/** Whether a gallery keeps the crops it was given. */
export type CropRetention = "none" | "keep";

/** Whether a gallery moves by itself when another model version becomes active. */
export type ModelPolicy = "pinned" | "follow-active";

/** What enrolling does where the entry id is taken. */
export type OnExisting = "replace" | "keep" | "fail";

/** How much of an entry a read returns: basic has no attributes, feature or crop. */
export type EntryView = "basic" | "full" | "feature" | "crop";

/** Whether a gallery answers. */
export type GalleryState = "ready" | "loading" | "rebuilding" | "closed";

/** What a gallery is made with; defaults are filled in by the caller's edge or here. */
export interface GallerySpec {
  readonly name: string;
  readonly model: ModelVersion;
  /** D, 1 to 4096. */
  readonly dimension: number;
  readonly modelPolicy?: ModelPolicy;
  /** `auto`: flat while it is small, then HNSW. Default HNSW with m 32. */
  readonly index?: IndexSpec | "auto";
  /** Default none. */
  readonly cropRetention?: CropRetention;
  /** Entries without an expiry of their own leave after this. */
  readonly defaultTtlMs?: number;
  /** Default 1,000,000. */
  readonly maxEntries?: number;
  readonly tags?: Readonly<Record<string, string>>;
}

/** What can be changed of a gallery; a field left out stays as it is. */
export interface GalleryChanges {
  readonly modelPolicy?: ModelPolicy;
  /** Takes effect with the rebuild that the caller starts. */
  readonly index?: IndexSpec | "auto";
  readonly cropRetention?: CropRetention;
  /** Null: entries stay. */
  readonly defaultTtlMs?: number | null;
  readonly maxEntries?: number;
  readonly tags?: Readonly<Record<string, string>>;
}

/** How a rebuild can be followed and stopped. */
export interface RebuildOptions {
  /** Its reason is thrown; before the new index is in place everything is undone. */
  readonly signal?: AbortSignal;
  /** Told how many entries are in the new index, of how many. */
  readonly report?: (doneCount: number, totalCount: number) => void;
}

/** A gallery as it stands. */
export interface GalleryDescription extends Required<
  Omit<GallerySpec, "defaultTtlMs" | "index">
> {
  /** Of the kind it has at the moment. */
  readonly index: IndexSpec;
  /** Whether its kind follows the number of entries; left out: no. */
  readonly autoIndex?: true;
  readonly defaultTtlMs: number | undefined;
  readonly state: GalleryState;
  readonly entryCount: number;
  readonly identityCount: number;
  /** Last write. */
  readonly sequence: number;
  /** Last write in the index. */
  readonly indexedSequence: number;
  /** Index in memory. */
  readonly indexBytes: number;
  readonly createdAtUs: number;
}

/** One member of a gallery, as reads return it. */
export interface Entry {
  readonly entryId: string;
  /** Empty: unknown. */
  readonly identity: string;
  /** Empty: unknown. */
  readonly cameraId: string;
  /** Microseconds since 1970. */
  readonly capturedAtUs?: number;
  readonly trackId: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly expiresAtUs?: number;
  readonly enrolledAtUs: number;
  /** Of its last write. */
  readonly sequence: number;
  /** float32 [D], unit norm; view feature only; the caller's own copy. */
  readonly feature?: Float32Array;
  /** The kept crop as received; view crop only, and only where kept. */
  readonly crop?: Uint8Array;
}

/** What is to be enrolled; the caller has checked ids, attributes and the feature. */
export interface Enrollment {
  /** float32 [D], finite, unit norm; copied. */
  readonly feature: Float32Array;
  /** Default: a ULID. */
  readonly entryId?: string;
  readonly identity?: string;
  readonly cameraId?: string;
  readonly capturedAtUs?: number;
  readonly trackId?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  /** Microseconds since 1970; default from the gallery's default_ttl. */
  readonly expiresAtUs?: number;
  /** Kept only where the gallery keeps crops. */
  readonly crop?: Uint8Array;
  /** Keyed hash of the crop as it came, kept in any case and given back when the entry is forgotten. */
  readonly cropHash?: Uint8Array;
}

/** The outcome of one enrolment: a sequence, or why not. */
export interface EnrollResult {
  readonly entryId: string;
  /** Of the entry; with on_existing KEEP that of the one kept; 0 with an error. */
  readonly sequence: number;
  readonly error?: ReidError;
}

/** The outcome of one enroll call. */
export interface EnrollOutcome {
  /** As the enrollments. */
  readonly results: readonly EnrollResult[];
  /** Last write of this call; the gallery's last where nothing was written. */
  readonly sequence: number;
}

/** Called inside the write's transaction: what it puts is durable with the write or not at all. */
export type InTransaction<Outcome> = (writer: Writer, outcome: Outcome) => void;

/** Settings of one enroll call. */
export interface EnrollOptions {
  /** Default replace. */
  readonly onExisting?: OnExisting;
  readonly inTransaction?: InTransaction<EnrollOutcome>;
}

/** New values for entries; a field left out stays as it is. */
export interface EntryChanges {
  /** Empty: unknown. */
  readonly identity?: string;
  readonly cameraId?: string;
  readonly trackId?: string;
  /** Microseconds since 1970; null: not known. */
  readonly capturedAtUs?: number | null;
  /** Microseconds since 1970; null: never. */
  readonly expiresAtUs?: number | null;
  readonly attributes?: {
    /** All of them; left out: those there are. */
    readonly replace?: Readonly<Record<string, string>>;
    /** Some of them, after `replace`; null: taken away. */
    readonly set?: Readonly<Record<string, string | null>>;
    /** That an entry may have. */
    readonly maximum: number;
  };
}

/** The outcome of an update. */
export interface UpdateOutcome {
  readonly updatedCount: number;
  readonly sequence: number;
  /** An entry that would have more attributes than may be; then nothing is updated. */
  readonly overfull?: string;
}

/** One identity of a gallery, over its entries that pass a filter. */
export interface IdentitySummary {
  readonly identity: string;
  readonly entryCount: number;
  /** The first 32, in byte order. */
  readonly cameraIds: readonly string[];
  /** First to just after last; undefined: no entry has a time. */
  readonly captured: Required<TimeRange> | undefined;
}

/** One page of identities, in byte order. */
export interface IdentityPage {
  readonly identities: readonly IdentitySummary[];
  /** Pass as `after` for the next page; undefined at the end. */
  readonly nextIdentity: string | undefined;
}

/** Which entries a delete or an update hits. */
export type EntrySelector =
  | { readonly entryIds: readonly string[] }
  | { readonly identity: string }
  | { readonly filter: Filter };

/** The outcome of a delete. */
export interface DeleteOutcome {
  readonly deletedCount: number;
  readonly sequence: number;
}

/** How a search groups what it finds by identity. */
export interface GroupOptions {
  /** Entries of one identity, at most; 1 or more. */
  readonly hitsPerIdentity: number;
}

/** One search: the same k and filter for all queries, and filters of their own. */
export interface SearchRequest {
  /** float32 [Q, D], finite unit rows; only read, until the search resolves. */
  readonly queries: Float32Array;
  /** 1 or more. */
  readonly k: number;
  /** Then k counts identities; an entry without identity counts as one. */
  readonly group?: GroupOptions;
  /** Whether each query's hits come with their features as one array; default no. */
  readonly withFeatures?: boolean;
  /** [−1, 1], inclusive; default: none. */
  readonly minSimilarity?: number;
  /** For all queries. */
  readonly filter?: Filter;
  /** [Q], each in addition to `filter`. */
  readonly queryFilters?: readonly (Filter | undefined)[];
  /** Default index. */
  readonly mode?: "index" | "exact";
  /** efSearch of this call; default the gallery's. */
  readonly effort?: number;
  /** `indexed` skips entries that are not in the index; default acknowledged. */
  readonly freshness?: "acknowledged" | "indexed";
  /** Waits until this write would be seen. */
  readonly minSequence?: number;
  /** Default basic. */
  readonly view?: EntryView;
  readonly signal?: AbortSignal;
}

/** One search result. */
export interface Hit {
  readonly entry: Entry;
  /** Inner product, [−1, 1] up to rounding, larger is closer. */
  readonly similarity: number;
}

/** The hits of one query. */
export interface QueryHits {
  /** By falling similarity, ties by entry id (bytes). */
  readonly hits: readonly Hit[];
  /** No approximation was made. */
  readonly exact: boolean;
  /** float32 [hits, D] as the index holds them, the caller's own; only where they were asked for. */
  readonly features?: Float32Array;
}

/** The outcome of one search. */
export interface SearchOutcome {
  /** As the queries. */
  readonly results: readonly QueryHits[];
  /** Every write up to here was seen, none was half seen. */
  readonly sequence: number;
}

/** Which entries are listed, by sequence. */
export interface EntryPageRequest {
  readonly filter?: Filter;
  /** Default basic. */
  readonly view?: EntryView;
  /** Those above it; default from the first. */
  readonly afterSequence?: number;
  readonly pageSize: number;
}

/** One page of entries, by sequence. */
export interface EntryPage {
  readonly entries: readonly Entry[];
  /** Pass as `afterSequence` for the next page; undefined at the end. */
  readonly nextSequence: number | undefined;
}

/** What `check` found. */
export interface GalleryCheck {
  readonly gallery: string;
  readonly entries: number;
  readonly sequence: number;
  readonly indexed: number;
  /** Empty where all is well; one line each. */
  readonly problems: readonly string[];
  /** Ids of entries of which the store has no sound feature of norm one, or no sound crop where there was one; all. */
  readonly brokenEntries: readonly string[];
}
