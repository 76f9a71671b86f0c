import {
  EntryExistsError,
  FeatureDimensionError,
  GalleryFullError,
} from "./errors.js";
import type { Enrollment, EnrollResult, OnExisting } from "./gallery-types.js";
import type { ScaledRecord } from "./scaled-records.js";

/** What is there under an entry id. */
export interface PresentEntry {
  readonly sequence: number;
  readonly identity: string;
}

/** An entry that a transaction writes. */
export interface AddedEntry extends PresentEntry {
  readonly entryId: string;
  readonly enrollment: Enrollment;
  readonly expiresAtUs: number | undefined;
  readonly enrolledAtUs: number;
  readonly crop: Uint8Array | undefined;
}

/** Enrolments of one transaction, planned over what is there: the rules are those of `GalleryDraft`. */
export class ScaledDraft {
  readonly added = new Map<number, AddedEntry>();
  /** Sequences that leave, with their identities. */
  readonly removed = new Map<number, string>();
  /** Sequences that entries with new values have got, with their identities. */
  readonly moved = new Map<number, string>();
  readonly #named: Map<string, PresentEntry>;
  readonly #nowUs: number;
  #record: ScaledRecord;

  /** @param present  by entry id: every entry that an enrolment names */
  constructor(
    record: ScaledRecord,
    present: ReadonlyMap<string, PresentEntry>,
    nowUs: number,
  ) {
    this.#record = record;
    this.#named = new Map(present);
    this.#nowUs = nowUs;
  }

  /** The gallery as the transaction leaves it. */
  get record(): ScaledRecord {
    return this.#record;
  }

  /** Changes what the record says beside its counts. */
  change(change: (record: ScaledRecord) => ScaledRecord): void {
    this.#record = change(this.#record);
  }

  /** Gives an entry with new values the next sequence. @returns that sequence */
  move(from: PresentEntry, identity: string): number {
    this.#count(1, 0);
    this.removed.set(from.sequence, from.identity);
    this.moved.set(this.#record.sequence, identity);
    return this.#record.sequence;
  }

  /** Plans the deletion of entries that are there. */
  remove(
    entries: readonly (PresentEntry & { readonly entryId: string })[],
  ): void {
    for (const { entryId, sequence, identity } of entries) {
      this.#named.delete(entryId);
      this.removed.set(sequence, identity);
      this.#count(1, -1);
    }
  }

  /** Plans one enrolment. */
  enroll(
    enrollment: Enrollment & { readonly entryId: string },
    onExisting: OnExisting,
  ): EnrollResult {
    const { name, dimension, maxEntries, cropRetention, defaultTtlMs } =
      this.#record;
    const { entryId, feature } = enrollment;
    const refused = (error: EnrollResult["error"] & Error): EnrollResult => ({
      entryId,
      sequence: 0,
      error,
    });
    if (feature.length !== dimension)
      return refused(
        new FeatureDimensionError(name, dimension, feature.length),
      );
    const present = this.#named.get(entryId);
    if (present !== undefined && onExisting === "keep")
      return { entryId, sequence: present.sequence };
    if (present !== undefined && onExisting === "fail")
      return refused(new EntryExistsError(name, entryId));
    if (present === undefined && this.#record.entryCount >= maxEntries)
      return refused(new GalleryFullError(name, maxEntries));
    if (present !== undefined) this.#replace(present);
    this.#count(1, present === undefined ? 1 : 0);
    const { sequence } = this.#record;
    const identity = enrollment.identity ?? "";
    this.added.set(sequence, {
      entryId,
      sequence,
      identity,
      enrollment,
      expiresAtUs:
        enrollment.expiresAtUs ??
        (defaultTtlMs === null ? undefined : this.#nowUs + defaultTtlMs * 1000),
      enrolledAtUs: this.#nowUs,
      crop: cropRetention === "keep" ? enrollment.crop : undefined,
    });
    this.#named.set(entryId, { sequence, identity });
    return { entryId, sequence };
  }

  #replace({ sequence, identity }: PresentEntry): void {
    // Written and replaced in one transaction: it never reaches the table.
    if (!this.added.delete(sequence)) this.removed.set(sequence, identity);
  }

  #count(writes: number, entries: number): void {
    this.#record = {
      ...this.#record,
      sequence: this.#record.sequence + writes,
      entryCount: this.#record.entryCount + entries,
    };
  }
}

/** How many entries of each identity a transaction adds, less those that it removes; the unknown one left out. */
export function identityChanges(
  added: Iterable<string>,
  removed: Iterable<string>,
): ReadonlyMap<string, number> {
  const changes = new Map<string, number>();
  const count = (identity: string, by: number): void => {
    if (identity !== "")
      changes.set(identity, (changes.get(identity) ?? 0) + by);
  };
  for (const identity of added) count(identity, 1);
  for (const identity of removed) count(identity, -1);
  for (const [identity, by] of changes) if (by === 0) changes.delete(identity);
  return changes;
}
