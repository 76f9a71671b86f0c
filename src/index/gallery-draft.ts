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
import { passes, passingRows } from "./filter-walk.js";
import { isOverfull, updatedFields } from "./entry-changes.js";
import { Turns } from "./turns.js";
import type {
  Enrollment,
  EntryChanges,
  EnrollResult,
  EntrySelector,
  OnExisting,
  UpdateOutcome,
} from "./gallery-types.js";

/** Rows planned, written or applied in one turn of the main thread: some 4 µs each. */
const plannedAtOnce = 128;

interface Added {
  readonly row: Row;
  /** Row of its feature in the draft's block; undefined: the store has it, and the crop, under the row's feature id. */
  readonly position: number | undefined;
  readonly crop: Uint8Array | undefined;
  readonly cropHash: Uint8Array | undefined;
}

/** What the index has to do once a transaction is committed. */
export interface IndexChanges {
  /** float64 [N], rising. */
  readonly added: Float64Array;
  /** float32 [N, D]. */
  readonly features: Float32Array;
  readonly removed: Float64Array;
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
  readonly #before: GalleryRecord;
  /** By sequence. */
  readonly #added = new Map<number, Added>();
  /** By entry id: the row that the transaction leaves under it, undefined where it leaves none. */
  readonly #named = new Map<string, Row | undefined>();
  /** By feature id: rows of before that the transaction deletes, replaces or updates. */
  readonly #removed = new Map<number, Row>();
  /** float32 [≥ placed, D]: all features in one block, of which store and index take views. */
  #features: Float32Array;
  #placed = 0;
  #size: number;
  #writtenCount: number;
  #replacedCount: number;
  #deletedCount: number;
  #forgottenSequence: number | undefined;

  constructor(rows: GalleryRows, record: GalleryRecord, context: DraftContext) {
    this.#rows = rows;
    this.#before = record;
    this.#context = context;
    this.#size = rows.size;
    this.#writtenCount = record.writtenCount;
    this.#replacedCount = record.replacedCount;
    this.#deletedCount = record.deletedCount;
    this.#forgottenSequence = record.forgottenSequence;
    const { expectedCount = 1 } = context;
    this.#features = new Float32Array(expectedCount * record.dimension);
  }

  /** The gallery as the transaction leaves it. */
  get record(): GalleryRecord {
    if (this.isEmpty) return this.#before;
    const forgottenSequence = this.#forgottenSequence;
    return {
      ...this.#before,
      ...(forgottenSequence === undefined ? {} : { forgottenSequence }),
      sequence: this.sequence,
      writtenCount: this.#writtenCount,
      replacedCount: this.#replacedCount,
      deletedCount: this.#deletedCount,
    };
  }

  /** The last sequence that the transaction has given so far. */
  get sequence(): number {
    const { sequence, writtenCount, deletedCount } = this.#before;
    const written = this.#writtenCount - writtenCount;
    return sequence + written + this.#deletedCount - deletedCount;
  }

  get isEmpty(): boolean {
    // Not by what is added and removed: what is enrolled and deleted in one transaction takes sequences too.
    return this.sequence === this.#before.sequence;
  }

  /** Plans one enrolment; the feature is copied. */
  enroll(enrollment: Enrollment, onExisting: OnExisting): EnrollResult {
    const { name, dimension, maxEntries, cropRetention, defaultTtlMs } =
      this.#before;
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
    const sequence = this.sequence + 1;
    const crop = cropRetention === "keep" ? enrollment.crop : undefined;
    const row: Row = {
      entryId,
      sequence,
      featureId: sequence,
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
    const { cropHash } = enrollment;
    this.#write(
      { row, position: this.#place(feature), crop, cropHash },
      present !== undefined,
    );
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
  async deleteSelected(selector: EntrySelector): Promise<number> {
    const turns = new Turns(plannedAtOnce);
    let count = 0;
    for await (const row of this.#selected(selector)) {
      this.#delete(row);
      count++;
      if (turns.isOver) await turns.next();
    }
    return count;
  }

  /**
   * Plans new values for the entries that a selector names, each under a new sequence; features and crops stay as
   * and where they are.
   *
   * @returns how many; `overfull`: an entry that may not be updated so, and then none is
   */
  async updateSelected(
    selector: EntrySelector,
    changes: EntryChanges,
  ): Promise<Omit<UpdateOutcome, "sequence">> {
    const turns = new Turns(plannedAtOnce);
    // Looked at before the first is planned: other calls' writes share the transaction, which cannot fail for this one.
    if (changes.attributes?.set !== undefined)
      for await (const row of this.#selected(selector)) {
        if (isOverfull(row, changes))
          return { updatedCount: 0, overfull: row.entryId };
        if (turns.isOver) await turns.next();
      }
    let updatedCount = 0;
    for await (const present of this.#selected(selector)) {
      const { position, crop, cropHash } =
        this.#added.get(present.sequence) ?? {};
      this.#drop(present);
      const sequence = this.sequence + 1;
      const row: Row = {
        ...present,
        ...updatedFields(present, changes),
        sequence,
        featureId: position === undefined ? present.featureId : sequence,
      };
      // Placed again: features lie in the order of their rows.
      const again =
        position === undefined
          ? undefined
          : this.#place(this.#featureAt(position));
      this.#write({ row, position: again, crop, cropHash }, true);
      updatedCount++;
      if (turns.isOver) await turns.next();
    }
    return { updatedCount };
  }

  /** Plans the deletion of an identity's entries for good: no snapshot from before it counts. @returns them */
  forget(identity: string): readonly Row[] {
    const stored = [...this.#rows.ofIdentity(identity)]
      .filter((featureId) => !this.#removed.has(featureId))
      .flatMap((featureId) => this.#rows.at(featureId) ?? []);
    const added = [...this.#added.values()]
      .map(({ row }) => row)
      .filter((row) => row.identity === identity);
    const forgotten = [...stored, ...added];
    for (const row of forgotten) this.#delete(row);
    if (forgotten.length > 0) this.#forgottenSequence = this.sequence;
    return forgotten;
  }

  /** Plans the deletion of entries whose time is over, in turns: a million may end in one moment. @returns how many */
  async sweep(): Promise<number> {
    const turns = new Turns(plannedAtOnce);
    let count = 0;
    for (const row of this.#rows.expired(this.#context.nowUs)) {
      if (!this.#removed.has(row.featureId)) this.#delete(row);
      count++;
      if (turns.isOver) await turns.next();
    }
    return count;
  }

  /** Hands the writes to the store's transaction, in turns. */
  async write(writer: Writer, tables: GalleryTables): Promise<void> {
    const { number, name } = this.#before;
    const turns = new Turns(plannedAtOnce);
    const kept = this.#keptFeatures();
    for (const { sequence, featureId, hasCrop } of this.#removed.values()) {
      if (turns.isOver) await turns.next();
      writer.remove(tables.entries, [number, sequence]);
      if (kept.has(featureId)) continue;
      writer.remove(tables.features, [number, featureId]);
      if (hasCrop) writer.remove(tables.crops, [number, featureId]);
      writer.remove(tables.cropHashes, [number, featureId]);
    }
    for (const { row, position, crop, cropHash } of this.#added.values()) {
      if (turns.isOver) await turns.next();
      const { sequence, featureId, ...entry } = row;
      const key = [number, sequence];
      writer.put<EntryRecord>(
        tables.entries,
        key,
        featureId === sequence ? entry : { ...entry, featureId },
      );
      if (position !== undefined)
        writer.put(
          tables.features,
          key,
          bytesFromFeature(this.#featureAt(position)),
        );
      if (crop !== undefined) writer.put(tables.crops, key, crop);
      if (cropHash !== undefined) writer.put(tables.cropHashes, key, cropHash);
    }
    if (!this.isEmpty) writer.put(tables.galleries, name, this.record);
  }

  /**
   * Brings the rows to what has been committed, in turns; an entry that is replaced is there all the while.
   *
   * @returns what the index has to do
   */
  async apply(): Promise<IndexChanges> {
    const { dimension } = this.#before;
    const turns = new Turns(plannedAtOnce);
    const kept = this.#keptFeatures();
    const added = new Float64Array(this.#added.size - kept.size);
    let i = 0;
    for (const { row, position } of this.#added.values()) {
      this.#rows.add(row);
      if (position !== undefined) {
        added[i] = row.featureId;
        // What was written and replaced in this transaction has left a gap before it.
        if (position !== i)
          this.#features.set(this.#featureAt(position), i * dimension);
        i++;
      }
      if (turns.isOver) await turns.next();
    }
    const removed = new Float64Array(this.#removed.size);
    let gone = 0;
    for (const [featureId, row] of this.#removed) {
      this.#rows.remove(row);
      if (!kept.has(featureId)) removed[gone++] = featureId;
      if (turns.isOver) await turns.next();
    }
    return {
      added,
      features: this.#features.subarray(0, i * dimension),
      removed: removed.subarray(0, gone),
    };
  }

  /** Features that are in the store and stay there, under rows that are new. */
  #keptFeatures(): ReadonlySet<number> {
    const kept = new Set<number>();
    for (const { row, position } of this.#added.values())
      if (position === undefined) kept.add(row.featureId);
    return kept;
  }

  /** The entries that a selector names, as the transaction leaves them so far. */
  async *#selected(selector: EntrySelector): AsyncIterable<Row> {
    if ("entryIds" in selector) {
      for (const entryId of new Set(selector.entryIds)) {
        const row = this.#find(entryId);
        if (row !== undefined) yield row;
      }
      return;
    }
    const filter =
      "identity" in selector
        ? { identityIn: [selector.identity] }
        : selector.filter;
    // What is written meanwhile, by the caller, is behind these.
    const added = [...this.#added.values()].map(({ row }) => row);
    const walk = passingRows(this.#rows, [filter], { nowUs: -Infinity });
    for await (const passing of walk)
      for (let i = 0; i < passing.count; i++)
        if (!this.#removed.has(passing.featureId(i))) yield passing.row(i);
    yield* added.filter(passes([filter]));
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
    const { dimension } = this.#before;
    return this.#features.subarray(
      position * dimension,
      (position + 1) * dimension,
    );
  }

  #find(entryId: string): Row | undefined {
    if (this.#named.has(entryId)) return this.#named.get(entryId);
    return this.#rows.named(entryId);
  }

  /** Plans a row under the next sequence. */
  #write(added: Added, replaces: boolean): void {
    const { row } = added;
    this.#added.set(row.sequence, added);
    this.#named.set(row.entryId, row);
    this.#size++;
    this.#writtenCount++;
    if (replaces) this.#replacedCount++;
  }

  #delete(row: Row): void {
    this.#drop(row);
    this.#named.set(row.entryId, undefined);
    this.#deletedCount++;
  }

  #drop(row: Row): void {
    this.#size--;
    // Written and replaced in one transaction: it never reaches the store.
    if (!this.#added.delete(row.sequence))
      this.#removed.set(row.featureId, row);
  }
}
