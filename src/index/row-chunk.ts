/** Rows of one chunk at most: looked at in one turn of the main thread, copied in less than a millisecond. */
export const rowsInChunk = 65_536;

const leastCapacity = 256;

/** Facts of entries side by side: the same position is the same entry. Codes are those of `Dictionary`. */
interface Columns {
  /** Of the entry's last write; rising. */
  readonly sequence: Float64Array;
  readonly featureId: Float64Array;
  /** Microseconds; NaN: not known. */
  readonly capturedAtUs: Float64Array;
  /** Microseconds; Infinity: never. */
  readonly expiresAtUs: Float64Array;
  readonly enrolledAtUs: Float64Array;
  /** Sequences of the entries of the same identity before and behind; 0: none. */
  readonly previous: Float64Array;
  readonly next: Float64Array;
  readonly camera: Uint32Array;
  readonly identity: Uint32Array;
  readonly track: Uint32Array;
  /** Where an entry's attributes end in `pairs`, and the next one's begin. */
  readonly pairsEnd: Uint32Array;
  /** 0: gone. */
  readonly alive: Uint8Array;
  readonly hasCrop: Uint8Array;
}

type Column = keyof Columns;

const sized: Readonly<{
  [Name in Column]: (capacity: number) => Columns[Name];
}> = {
  sequence: (capacity) => new Float64Array(capacity),
  featureId: (capacity) => new Float64Array(capacity),
  capturedAtUs: (capacity) => new Float64Array(capacity),
  expiresAtUs: (capacity) => new Float64Array(capacity),
  enrolledAtUs: (capacity) => new Float64Array(capacity),
  previous: (capacity) => new Float64Array(capacity),
  next: (capacity) => new Float64Array(capacity),
  camera: (capacity) => new Uint32Array(capacity),
  identity: (capacity) => new Uint32Array(capacity),
  track: (capacity) => new Uint32Array(capacity),
  pairsEnd: (capacity) => new Uint32Array(capacity),
  alive: (capacity) => new Uint8Array(capacity),
  hasCrop: (capacity) => new Uint8Array(capacity),
};

const names = Object.keys(sized) as readonly Column[];

function columnsOf(capacity: number): Columns {
  const made = names.map((name) => [name, sized[name](capacity)] as const);
  return Object.fromEntries(made) as unknown as Columns;
}

/** One row as the columns take it, but for its place. */
export type RowFacts = Readonly<Record<Exclude<Column, "pairsEnd">, number>>;

/** Up to `rowsInChunk` rows in columns, by rising sequence; dead ones stay until the chunk is packed. */
export class RowChunk {
  readonly entryIds: string[] = [];
  /** Dictionary codes of all rows' attributes, one behind another. */
  pairs: Uint32Array<ArrayBufferLike> = new Uint32Array(0);
  columns: Columns = columnsOf(leastCapacity);
  /** Rows, dead ones included. */
  count = 0;
  live = 0;
  /** No living row expires before; microseconds. */
  nextExpiryUs = Infinity;
  /** All feature ids lie in between; those of rows that have died count too. */
  firstFeatureId = Infinity;
  lastFeatureId = -Infinity;

  /** Adds a row behind the others; there must be room. */
  push(row: RowFacts, entryId: string, pairs: ArrayLike<number>): void {
    this.#reserve(this.count + 1, this.pairCount + pairs.length);
    const { columns, count } = this;
    const start = this.pairCount;
    for (const name of names)
      if (name !== "pairsEnd") columns[name][count] = row[name];
    for (let i = 0; i < pairs.length; i++) this.pairs[start + i] = pairs[i];
    columns.pairsEnd[count] = start + pairs.length;
    this.entryIds[count] = entryId;
    this.nextExpiryUs = Math.min(this.nextExpiryUs, row.expiresAtUs);
    this.#widen(row.featureId, row.featureId);
    this.live += row.alive;
    this.count++;
  }

  /** Marks a row as dead. */
  kill(position: number): void {
    this.columns.alive[position] = 0;
    this.entryIds[position] = "";
    this.live--;
  }

  get pairCount(): number {
    return this.count === 0 ? 0 : this.columns.pairsEnd[this.count - 1];
  }

  /** A row's attributes: a view. */
  pairsAt(position: number): Uint32Array {
    const { pairsEnd } = this.columns;
    const start = position === 0 ? 0 : pairsEnd[position - 1];
    return this.pairs.subarray(start, pairsEnd[position]);
  }

  /** The first position whose sequence is not below; `count` where there is none. */
  lowerBound(sequence: number): number {
    const sequences = this.columns.sequence;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sequences[middle] < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The living rows of neighbouring chunks as one, in arrays no larger than they need. */
  static packed(chunks: readonly RowChunk[]): RowChunk {
    const packed = new RowChunk();
    const live = chunks.reduce((sum, chunk) => sum + chunk.live, 0);
    packed.#reserve(live, 0);
    for (const chunk of chunks) packed.#takeLiving(chunk);
    return packed;
  }

  #takeLiving(from: RowChunk): void {
    const kept = new Uint32Array(from.live);
    let count = 0;
    for (let i = 0; i < from.count; i++)
      if (from.columns.alive[i] === 1) kept[count++] = i;
    const start = this.count;
    for (const name of names) {
      const source = from.columns[name];
      const target = this.columns[name];
      for (let i = 0; i < count; i++) target[start + i] = source[kept[i]];
    }
    let end = this.pairCount;
    this.#reserve(0, end + from.pairCount);
    for (let i = 0; i < count; i++) {
      const pairs = from.pairsAt(kept[i]);
      this.pairs.set(pairs, end);
      end += pairs.length;
      this.columns.pairsEnd[start + i] = end;
      this.entryIds.push(from.entryIds[kept[i]]);
    }
    this.nextExpiryUs = Math.min(this.nextExpiryUs, from.nextExpiryUs);
    this.#widen(from.firstFeatureId, from.lastFeatureId);
    this.count += count;
    this.live += count;
  }

  #widen(first: number, last: number): void {
    this.firstFeatureId = Math.min(this.firstFeatureId, first);
    this.lastFeatureId = Math.max(this.lastFeatureId, last);
  }

  #reserve(rows: number, pairs: number): void {
    const present = this.columns.alive.length;
    if (rows > present) {
      const capacity = Math.min(rowsInChunk, Math.max(rows, 2 * present));
      const larger = columnsOf(capacity);
      for (const name of names) larger[name].set(this.columns[name]);
      this.columns = larger;
    }
    if (pairs > this.pairs.length) {
      const larger = new Uint32Array(Math.max(pairs, 2 * this.pairs.length));
      larger.set(this.pairs);
      this.pairs = larger;
    }
  }
}
