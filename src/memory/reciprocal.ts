import { roundHalfToEven } from "./rounding.js";

/** Rows of a sparse matrix, one behind the other. */
export interface SparseRows {
  /** int32 [N + 1]: row i is [rowStart[i], rowStart[i + 1]). */
  readonly rowStart: Int32Array;
  /** int32 [non-zeros]. */
  readonly columns: Int32Array;
  /** float32 [non-zeros]. */
  readonly values: Float32Array;
}

/** Neighbour lists of all rows: what sets are built from. */
export interface NeighbourLists {
  /** int32 [N, width] by falling similarity, itself first; −1 where a search came short; only read. */
  readonly neighbours: Int32Array;
  /** Entries a row. */
  readonly width: number;
  /** Entries of a row that count, ≤ width: N(i, k1 + 1). */
  readonly reach: number;
  /** k1: half sets reach to its half. */
  readonly k1: number;
}

/** Distances from row `row` to `members[0 … count)`, written to `out[0 … count)`; smaller is closer. */
export type RowDistance = (
  row: number,
  members: Int32Array,
  count: number,
  out: Float64Array,
) => void;

/**
 * k-reciprocal sets, expanded: for each row the rows that are its neighbours both ways, and theirs.
 *
 *     R(i, k) = { j ∈ N(i, k + 1) : i ∈ N(j, k + 1) }
 *     R*(i)   = R(i, k1) ∪ R(j, k1/2) for all j ∈ R(i, k1) with |R(j, k1/2) ∩ R(i, k1)| > ⅔ |R(j, k1/2)|
 *
 * The test is against the original set, not the growing one; k1/2 is rounded half to even. A row is
 * always in its own set, even where it is missing from its list.
 *
 * Source: Zhong et al., CVPR 2017 (k-reciprocal encoding); roundings as in yxgeee/SpCL
 * spcl/utils/faiss_rerank.py, compute_jaccard_distance.
 */
export class ReciprocalSets {
  /** N. */
  readonly count: number;
  readonly #lists: NeighbourLists;
  readonly #halfStart: Int32Array;
  readonly #halfMembers: Int32Array;
  /** Stamps tell this row's marks from older ones without clearing [N]. */
  readonly #inOriginal: Int32Array;
  readonly #inExpanded: Int32Array;
  #stamp = 0;

  constructor(count: number, lists: NeighbourLists) {
    this.count = count;
    this.#lists = lists;
    this.#inOriginal = new Int32Array(count);
    this.#inExpanded = new Int32Array(count);
    const halfReach = Math.min(lists.reach, roundHalfToEven(lists.k1 / 2) + 1);
    this.#halfStart = new Int32Array(count + 1);
    const members = new Int32Array(count * (halfReach + 1));
    let end = 0;
    for (let i = 0; i < count; i++) {
      end = this.#original(i, halfReach, members, end);
      this.#halfStart[i + 1] = end;
    }
    this.#halfMembers = members.slice(0, end);
  }

  /**
   * Writes R*(i) into `out` from 0 and gives its size; `out` must hold `maxSize`.
   *
   * The order is that of discovery: the row's own set by falling similarity, then what was added.
   */
  expand(row: number, out: Int32Array): number {
    const { reach } = this.#lists;
    const original = this.#original(row, reach, out, 0);
    const stamp = ++this.#stamp;
    for (let m = 0; m < original; m++) {
      this.#inOriginal[out[m]] = stamp;
      this.#inExpanded[out[m]] = stamp;
    }
    let size = original;
    for (let m = 0; m < original; m++) {
      const start = this.#halfStart[out[m]];
      const end = this.#halfStart[out[m] + 1];
      let shared = 0;
      for (let h = start; h < end; h++)
        if (this.#inOriginal[this.#halfMembers[h]] === stamp) shared++;
      if (3 * shared <= 2 * (end - start)) continue;
      for (let h = start; h < end; h++) {
        const candidate = this.#halfMembers[h];
        if (this.#inExpanded[candidate] === stamp) continue;
        this.#inExpanded[candidate] = stamp;
        out[size++] = candidate;
      }
    }
    return size;
  }

  /** No expanded set is larger. */
  get maxSize(): number {
    const { reach, k1 } = this.#lists;
    return Math.min(this.count, (reach + 1) * (roundHalfToEven(k1 / 2) + 3));
  }

  /** Appends R(i) over lists of `reach` entries to `out` from `end`; gives the new end. */
  #original(i: number, reach: number, out: Int32Array, end: number): number {
    const { neighbours, width } = this.#lists;
    out[end++] = i;
    for (let p = i * width; p < i * width + reach; p++) {
      const j = neighbours[p];
      if (j < 0 || j === i) continue;
      const stop = j * width + reach;
      let q = j * width;
      while (q < stop && neighbours[q] !== i) q++;
      if (q < stop) out[end++] = j;
    }
    return end;
  }
}

/**
 * Encodes each row as weights over its expanded k-reciprocal set.
 *
 *     V_i = softmax over R*(i) of −d(i, ·)
 *
 * Source: Zhong et al., CVPR 2017.
 *
 * @param distance  d, called once a row
 * @param needed    [N]: 0 for rows that may stay empty; all are encoded by default
 * @returns         [N, N] with a few hundred non-zeros a row, each row summing to 1; columns in no order
 */
export function encodeRows(
  sets: ReciprocalSets,
  distance: RowDistance,
  needed?: Uint8Array,
): SparseRows {
  const members = new Int32Array(sets.maxSize);
  const weights = new Float64Array(sets.maxSize);
  const rows = new SparseRowsBuilder(sets.count, 32);
  for (let i = 0; i < sets.count; i++) {
    if (needed?.[i] === 0) {
      rows.append(members, weights, 0);
      continue;
    }
    const size = sets.expand(i, members);
    distance(i, members, size, weights);
    softmaxOfNegative(weights, size);
    rows.append(members, weights, size);
  }
  return rows.build();
}

/**
 * Replaces each row by the mean of its nearest rows' old values, itself included.
 *
 * Source: Zhong et al., CVPR 2017 (local query expansion).
 *
 * @param k2     entries of the neighbour list that are averaged; 1 changes nothing
 * @param lists  as for the sets
 * @param wanted  rows to compute, in this order; all by default
 * @returns      [wanted, N]
 */
export function averageOverNeighbours(
  encoded: SparseRows,
  k2: number,
  { neighbours, width }: NeighbourLists,
  wanted?: Int32Array,
): SparseRows {
  const count = encoded.rowStart.length - 1;
  const taken = Math.max(1, Math.min(k2, width));
  const rowCount = wanted?.length ?? count;
  if (taken === 1 && wanted === undefined) return encoded;
  const sums = new Float64Array(count);
  const seen = new Int32Array(count).fill(-1);
  const touched = new Int32Array(count);
  const picked = new Float64Array(count);
  const rows = new SparseRowsBuilder(rowCount, 64);
  for (let n = 0; n < rowCount; n++) {
    const i = wanted?.[n] ?? n;
    let size = 0;
    let averaged = 0;
    for (let p = i * width; p < i * width + taken; p++) {
      // A list without any entry still has the row itself.
      const j = neighbours[p] < 0 && p === i * width ? i : neighbours[p];
      if (j < 0) continue;
      averaged++;
      for (let q = encoded.rowStart[j]; q < encoded.rowStart[j + 1]; q++) {
        const column = encoded.columns[q];
        if (seen[column] !== i) {
          seen[column] = i;
          sums[column] = 0;
          touched[size++] = column;
        }
        sums[column] += encoded.values[q];
      }
    }
    for (let t = 0; t < size; t++) picked[t] = sums[touched[t]] / averaged;
    rows.append(touched, picked, size);
  }
  return rows.build();
}

/**
 * The transposed matrix; its rows are in rising order of their columns.
 *
 * @param columnCount  columns of the matrix, as many as it has rows by default
 */
export function transpose(
  { rowStart, columns, values }: SparseRows,
  columnCount = rowStart.length - 1,
): SparseRows {
  const count = rowStart.length - 1;
  const start = new Int32Array(columnCount + 1);
  for (let p = 0; p < columns.length; p++) start[columns[p] + 1]++;
  for (let i = 0; i < columnCount; i++) start[i + 1] += start[i];
  const next = start.slice(0, columnCount);
  const transposedColumns = new Int32Array(columns.length);
  const transposedValues = new Float32Array(columns.length);
  for (let i = 0; i < count; i++)
    for (let p = rowStart[i]; p < rowStart[i + 1]; p++) {
      const place = next[columns[p]]++;
      transposedColumns[place] = i;
      transposedValues[place] = values[p];
    }
  return {
    rowStart: start,
    columns: transposedColumns,
    values: transposedValues,
  };
}

/** Collects sparse rows into buffers that grow as they fill. */
export class SparseRowsBuilder {
  readonly #rowStart: Int32Array;
  #columns: Int32Array;
  #values: Float32Array;
  #row = 0;
  #end = 0;

  /** @param expected  non-zeros a row, a guess */
  constructor(count: number, expected: number) {
    this.#rowStart = new Int32Array(count + 1);
    this.#columns = new Int32Array(count * expected);
    this.#values = new Float32Array(count * expected);
  }

  /** Adds the next row: the first `size` of both. */
  append(columns: Int32Array, values: Float64Array, size: number): void {
    if (this.#end + size > this.#columns.length) this.#grow(size);
    for (let n = 0; n < size; n++) {
      this.#columns[this.#end + n] = columns[n];
      this.#values[this.#end + n] = values[n];
    }
    this.#end += size;
    this.#rowStart[++this.#row] = this.#end;
  }

  /** The rows so far, in buffers of their own size. */
  build(): SparseRows {
    return {
      rowStart: this.#rowStart,
      columns: this.#columns.slice(0, this.#end),
      values: this.#values.slice(0, this.#end),
    };
  }

  #grow(size: number): void {
    const capacity = Math.ceil((this.#end + size) * 1.5);
    const columns = new Int32Array(capacity);
    columns.set(this.#columns.subarray(0, this.#end));
    this.#columns = columns;
    const values = new Float32Array(capacity);
    values.set(this.#values.subarray(0, this.#end));
    this.#values = values;
  }
}

function softmaxOfNegative(distances: Float64Array, size: number): void {
  let nearest = Infinity;
  for (let n = 0; n < size; n++)
    if (distances[n] < nearest) nearest = distances[n];
  let sum = 0;
  for (let n = 0; n < size; n++) {
    distances[n] = Math.exp(nearest - distances[n]);
    sum += distances[n];
  }
  for (let n = 0; n < size; n++) distances[n] /= sum;
}
