import { moveRow } from "#memory/hybrid-memory";

/** One crop that was embedded, as the memory learns from it. */
export interface SeenCrop {
  /** float32 [D], unit L2 norm; only read, copied. */
  readonly feature: Float32Array;
  /** The caller's; may be empty. */
  readonly cropId: string;
  readonly cameraId: string;
  /** Empty: the crop is an instance of its own. */
  readonly trackId: string;
  /** Milliseconds since 1970. */
  readonly capturedAtMs: number;
  /** Keyed hash of the crop, hexadecimal; left out: it could not be made. */
  readonly cropHash?: string | undefined;
}

/** One target instance. */
export interface MemoryRow {
  /** Number of the row, rising with its first crop; never given twice. */
  readonly row: number;
  /** Of the last crop. */
  readonly cropId: string;
  readonly cameraId: string;
  readonly trackId: string;
  /** Of the last crop. */
  readonly capturedAtMs: number;
  /** float32 [D], unit; changed in place when its track is seen again. */
  readonly feature: Float32Array;
  /** Of its last crops, older first: by them it is found when one of these is to be forgotten. */
  readonly cropHashes: readonly string[];
}

/** Hashes that a row keeps of a long track: a tenth of a feature of 512 numbers. */
const HASHES = 32;

/** How many rows there may be, and how fast they move. */
export interface RowSettings {
  readonly maxRows: number;
  /** Share of the old row that stays. */
  readonly momentum: number;
}

/** What one crop did. */
export type RowChange = "added" | "moved";

/**
 * The instances in memory: a row for each track of each camera, or for each crop without a track.
 *
 * Bounded: the row that was seen longest ago leaves. What has changed since it was last asked for is kept,
 * for the store.
 */
export class MemoryRows {
  readonly #settings: RowSettings;
  /** By number, the row seen longest ago first. */
  readonly #rows = new Map<number, MemoryRow>();
  readonly #byTrack = new Map<string, number>();
  #dirty = new Set<number>();
  #removed = new Set<number>();
  #next = 0;

  constructor(settings: RowSettings) {
    this.#settings = settings;
  }

  /** R. */
  get size(): number {
    return this.#rows.size;
  }

  /** Number that the next row gets. */
  get nextRow(): number {
    return this.#next;
  }

  /** One row; undefined: it has left, or never was. */
  get(row: number): MemoryRow | undefined {
    return this.#rows.get(row);
  }

  /** All rows by number. */
  sorted(): MemoryRow[] {
    return [...this.#rows.values()].sort((a, b) => a.row - b.row);
  }

  /** Takes up rows that the store held, seen longest ago first. */
  restore(rows: readonly MemoryRow[], nextRow: number): void {
    for (const row of rows) this.#place(row);
    this.#next = Math.max(nextRow, this.#next);
    this.#evict();
  }

  /** Learns from one crop. */
  observe(crop: SeenCrop): RowChange {
    const known = this.#byTrack.get(trackKey(crop));
    const old = known === undefined ? undefined : this.#rows.get(known);
    if (old === undefined) {
      const { feature, cropHash: _, ...facts } = crop;
      this.#place({
        ...facts,
        row: this.#next,
        feature: feature.slice(),
        cropHashes: hashesAfter([], crop),
      });
      this.#dirty.add(this.#next);
      this.#next += 1;
      this.#evict();
      return "added";
    }
    moveRow(old.feature, crop.feature, this.#settings.momentum);
    const { cropId, capturedAtMs } = crop;
    this.#rows.delete(old.row);
    const cropHashes = hashesAfter(old.cropHashes, crop);
    this.#rows.set(old.row, { ...old, cropId, capturedAtMs, cropHashes });
    this.#dirty.add(old.row);
    return "moved";
  }

  /** Takes rows away, as if they had never been seen. */
  forget(numbers: Iterable<number>): void {
    for (const number of numbers) {
      const row = this.#rows.get(number);
      if (row === undefined) continue;
      this.#rows.delete(number);
      if (row.trackId !== "") this.#byTrack.delete(trackKey(row));
      this.#dirty.delete(number);
      this.#removed.add(number);
    }
  }

  /** Rows to write and numbers to remove since the last call; the caller owns the lists. */
  takeChanges(): {
    readonly changed: readonly number[];
    readonly removed: readonly number[];
  } {
    const changes = { changed: [...this.#dirty], removed: [...this.#removed] };
    this.#dirty = new Set();
    this.#removed = new Set();
    return changes;
  }

  /** Whether there is anything to write. */
  get hasChanges(): boolean {
    return this.#dirty.size + this.#removed.size > 0;
  }

  /** Puts changes back that could not be written. */
  returnChanges(changed: readonly number[], removed: readonly number[]): void {
    for (const row of changed) if (this.#rows.has(row)) this.#dirty.add(row);
    for (const row of removed) this.#removed.add(row);
  }

  #place(row: MemoryRow): void {
    this.#rows.set(row.row, row);
    if (row.trackId !== "") this.#byTrack.set(trackKey(row), row.row);
  }

  #evict(): void {
    for (const [number, row] of this.#rows) {
      if (this.#rows.size <= this.#settings.maxRows) return;
      this.#rows.delete(number);
      if (row.trackId !== "") this.#byTrack.delete(trackKey(row));
      this.#dirty.delete(number);
      this.#removed.add(number);
    }
  }
}

function hashesAfter(
  before: readonly string[],
  { cropHash }: SeenCrop,
): readonly string[] {
  return cropHash === undefined || before.includes(cropHash)
    ? before
    : [...before.slice(1 - HASHES), cropHash];
}

/** Tracks are unique within their camera. Ids hold no control characters, so this joins them without doubt. */
function trackKey({
  cameraId,
  trackId,
}: Pick<SeenCrop, "cameraId" | "trackId">): string {
  return trackId === "" ? "" : `${cameraId}\u0000${trackId}`;
}
