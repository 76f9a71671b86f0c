import type { Writer } from "#core/store";

import {
  EntryExistsError,
  FeatureDimensionError,
  GalleryFullError,
} from "./errors.js";
import {
  bytesFromFeature,
  type EntryRecord,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { GalleryRows, Row } from "./gallery-rows.js";
import { passes } from "./filter-walk.js";
import type {
  Enrollment,
  EnrollResult,
  EntrySelector,
  OnExisting,
} from "./gallery-types.js";

interface Added {
  readonly row: Row;
  /** Row of its feature in the draft's block. */
  readonly position: number;
  readonly crop: Uint8Array | undefined;
}

/** What a draft needs beside the gallery: the present and new ids. */
export interface DraftContext {
  readonly nowUs: number;
  readonly newEntryId: () => string;
  /** Enrolments that it is made for; more are taken. Default 1. */
  readonly expectedCount?: number;
}

/** The writes of one transaction, planned over the rows of before; nothing is changed until `apply`. */
export class GalleryDraft {
  readonly #rows: GalleryRows;
  readonly #context: DraftContext;
  readonly #added = new Map<number, Added>();
  /** By entry id: the row that the transaction leaves under it, undefined where it leaves none. */
  readonly #named = new Map<string, Row | undefined>();
  readonly #removed = new Map<number, Row>();
  /** float32 [≥ placed, D]: all features in one block, of which store and index take views. */
  #features: Float32Array;
  #placed = 0;
  #record: GalleryRecord;
  #size: number;

  constructor(rows: GalleryRows, record: GalleryRecord, context: DraftContext) {
    this.#rows = rows;
    this.#record = record;
    this.#context = context;
    this.#size = rows.size;
    const { expectedCount = 1 } = context;
    this.#features = new Float32Array(expectedCount * record.dimension);
  }

  /** The gallery as the transaction leaves it. */
  get record(): GalleryRecord {
    return this.#record;
  }

  get isEmpty(): boolean {
    return this.#added.size === 0 && this.#removed.size === 0;
  }

  /** Plans one enrolment; the feature is copied. */
  enroll(enrollment: Enrollment, onExisting: OnExisting): EnrollResult {
    const { name, dimension, maxEntries, cropRetention, defaultTtlMs } =
      this.#record;
    const { feature, entryId = this.#context.newEntryId() } = enrollment;
    if (feature.length !== dimension) {
      const error = new FeatureDimensionError(name, dimension, feature.length);
      return { entryId, sequence: 0, error };
    }
    const present = this.#find(entryId);
    if (present !== undefined && onExisting === "keep")
      return { entryId, sequence: present.sequence };
    if (present !== undefined && onExisting === "fail")
      return {
        entryId,
        sequence: 0,
        error: new EntryExistsError(name, entryId),
      };
    if (present === undefined && this.#size >= maxEntries)
      return {
        entryId,
        sequence: 0,
        error: new GalleryFullError(name, maxEntries),
      };
    if (present !== undefined) this.#drop(present);
    const { nowUs } = this.#context;
    const sequence = this.#record.sequence + 1;
    const crop = cropRetention === "keep" ? enrollment.crop : undefined;
    const row: Row = {
      entryId,
      sequence,
      identity: enrollment.identity ?? "",
      cameraId: enrollment.cameraId ?? "",
      capturedAtUs: enrollment.capturedAtUs,
      trackId: enrollment.trackId ?? "",
      attributes: enrollment.attributes ?? {},
      expiresAtUs:
        enrollment.expiresAtUs ??
        (defaultTtlMs === undefined ? undefined : nowUs + defaultTtlMs * 1000),
      enrolledAtUs: nowUs,
      hasCrop: crop !== undefined,
    };
    this.#added.set(sequence, { row, position: this.#place(feature), crop });
    this.#named.set(entryId, row);
    this.#size++;
    this.#record = {
      ...this.#record,
      sequence,
      writtenCount: this.#record.writtenCount + 1,
      replacedCount:
        this.#record.replacedCount + (present === undefined ? 0 : 1),
    };
    return { entryId, sequence };
  }

  /** Plans one deletion. @returns whether the entry was there */
  delete(entryId: string): boolean {
    const present = this.#find(entryId);
    if (present === undefined) return false;
    this.#delete(present);
    return true;
  }

  /** Plans the deletion of the entries that a selector names; what is not there is no error. @returns how many */
  deleteSelected(selector: EntrySelector): number {
    if ("entryIds" in selector)
      return selector.entryIds.filter((entryId) => this.delete(entryId)).length;
    const holds =
      "identity" in selector
        ? (row: Row) => row.identity === selector.identity
        : passes([selector.filter]);
    const chosen = [...this.rows()].filter(holds);
    for (const row of chosen) this.#delete(row);
    return chosen.length;
  }

  /** Plans the deletion of an identity's entries for good: no snapshot from before it counts. @returns them */
  forget(identity: string): readonly Row[] {
    const stored = [...this.#rows.ofIdentity(identity)]
      .filter((sequence) => !this.#removed.has(sequence))
      .flatMap((sequence) => this.#rows.at(sequence) ?? []);
    const added = [...this.#added.values()]
      .map(({ row }) => row)
      .filter((row) => row.identity === identity);
    const forgotten = [...stored, ...added];
    for (const row of forgotten) this.#delete(row);
    if (forgotten.length > 0)
      this.#record = {
        ...this.#record,
        forgottenSequence: this.#record.sequence,
      };
    return forgotten;
  }

  /** Plans the deletion of entries whose time is over. @returns how many */
  sweep(): number {
    const over = this.#rows.expired(this.#context.nowUs);
    for (const row of over)
      if (!this.#removed.has(row.sequence)) this.#delete(row);
    return over.length;
  }

  /** Entries as the transaction leaves them so far. */
  *rows(): Iterable<Row> {
    for (const row of this.#rows.all())
      if (!this.#removed.has(row.sequence)) yield row;
    for (const { row } of this.#added.values()) yield row;
  }

  /** Hands the writes to the store's transaction. */
  write(writer: Writer, tables: GalleryTables): void {
    const { number, name } = this.#record;
    for (const { sequence, hasCrop } of this.#removed.values()) {
      writer.remove(tables.entries, [number, sequence]);
      writer.remove(tables.features, [number, sequence]);
      if (hasCrop) writer.remove(tables.crops, [number, sequence]);
    }
    for (const { row, position, crop } of this.#added.values()) {
      const { sequence, ...entry } = row;
      writer.put<EntryRecord>(tables.entries, [number, sequence], entry);
      writer.put(
        tables.features,
        [number, sequence],
        bytesFromFeature(this.#featureAt(position)),
      );
      if (crop !== undefined)
        writer.put(tables.crops, [number, sequence], crop);
    }
    if (!this.isEmpty) writer.put(tables.galleries, name, this.#record);
  }

  /** Brings the rows to what has been committed. @returns what the index has to do */
  apply(): {
    added: Float64Array;
    features: Float32Array;
    removed: Float64Array;
  } {
    const { dimension } = this.#record;
    for (const row of this.#removed.values()) this.#rows.remove(row);
    const added = new Float64Array(this.#added.size);
    let i = 0;
    for (const { row, position } of this.#added.values()) {
      this.#rows.add(row);
      added[i] = row.sequence;
      // What was written and replaced in this transaction has left a gap before it.
      if (position !== i)
        this.#features.set(this.#featureAt(position), i * dimension);
      i++;
    }
    return {
      added,
      features: this.#features.subarray(0, i * dimension),
      removed: Float64Array.from(this.#removed.keys()),
    };
  }

  /** Copies a feature into the block. @returns  its row there */
  #place(feature: Float32Array): number {
    const start = this.#placed * feature.length;
    if (start === this.#features.length) {
      const larger = new Float32Array(2 * start + feature.length);
      larger.set(this.#features);
      this.#features = larger;
    }
    this.#features.set(feature, start);
    return this.#placed++;
  }

  #featureAt(position: number): Float32Array {
    const { dimension } = this.#record;
    return this.#features.subarray(
      position * dimension,
      (position + 1) * dimension,
    );
  }

  #find(entryId: string): Row | undefined {
    if (this.#named.has(entryId)) return this.#named.get(entryId);
    return this.#rows.named(entryId);
  }

  #delete(row: Row): void {
    this.#drop(row);
    this.#named.set(row.entryId, undefined);
    this.#record = {
      ...this.#record,
      sequence: this.#record.sequence + 1,
      deletedCount: this.#record.deletedCount + 1,
    };
  }

  #drop(row: Row): void {
    this.#size--;
    // Written and replaced in one transaction: it never reaches the store.
    if (!this.#added.delete(row.sequence)) this.#removed.set(row.sequence, row);
  }
}
