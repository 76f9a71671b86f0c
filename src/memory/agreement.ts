/** How well two partitions of the same instances agree. */
export interface PartitionAgreement {
  /** Adjusted Rand index, 1 for equal partitions, 0 as chance has it; Hubert and Arabie 1985. */
  readonly ari: number;
  /** Normalized mutual information, arithmetic mean of the entropies, [0, 1]. */
  readonly nmi: number;
  /** Share of the pairs joined in `labels` that are joined in `truth`; 1 where none is joined. */
  readonly pairPrecision: number;
  /** Share of the pairs joined in `truth` that are joined in `labels`; 1 where none is joined. */
  readonly pairRecall: number;
}

/**
 * Compares labels with the true identities, in O(N).
 *
 * Instances with a negative truth (junk) take no part; a negative label is a class of its own.
 *
 * Source: Hubert and Arabie 1985 (ARI); scikit-learn normalized_mutual_info_score (NMI).
 *
 * @param labels  [N]
 * @param truth   [N]
 */
export function partitionAgreement(
  labels: ArrayLike<number>,
  truth: ArrayLike<number>,
): PartitionAgreement {
  const known = Array.from({ length: truth.length }, (_, i) => i).filter(
    (i) => truth[i] >= 0,
  );
  const a = groupByLabel(
    known.map((i) => (labels[i] < 0 ? -1 - i : labels[i])),
  );
  const b = groupByLabel(known.map((i) => truth[i]));
  const cells = contingency(a, b);
  const total = known.length;
  const pairs = pairSums(cells, a.sizes, b.sizes);
  return {
    ari: adjustedRand(pairs, total),
    nmi: normalizedMutualInformation(cells, a.sizes, b.sizes),
    pairPrecision: pairs.a > 0 ? pairs.both / pairs.a : 1,
    pairRecall: pairs.b > 0 ? pairs.both / pairs.b : 1,
  };
}

/** Labels as 0 … K − 1, in order of first appearance. */
interface CompactLabels {
  /** int32 [N]. */
  readonly ids: Int32Array;
  /** K. */
  readonly count: number;
}

/** Renumbers labels so that counts fit an array. */
function compact(labels: ArrayLike<number>): CompactLabels {
  const numbers = new Map<number, number>();
  const ids = Int32Array.from(labels, (label) => {
    const known = numbers.get(label);
    if (known !== undefined) return known;
    numbers.set(label, numbers.size);
    return numbers.size - 1;
  });
  return { ids, count: numbers.size };
}

/** A labelling with its instances grouped by label: made once, compared often. */
export interface GroupedLabels extends CompactLabels {
  /** int32 [K]. */
  readonly sizes: Int32Array;
  /** int32 [N]: instances by label, in index order. */
  readonly members: Int32Array;
}

/** Groups the instances of each label. */
export function groupByLabel(labels: ArrayLike<number>): GroupedLabels {
  const { ids, count } = compact(labels);
  const sizes = new Int32Array(count);
  for (const id of ids) sizes[id]++;
  const next = new Int32Array(count);
  for (let k = 1; k < count; k++) next[k] = next[k - 1] + sizes[k - 1];
  const members = new Int32Array(ids.length);
  for (let i = 0; i < ids.length; i++) members[next[ids[i]]++] = i;
  return { ids, count, sizes, members };
}

/**
 * Adjusted Rand index of two labellings of the same instances, in O(N) without a table.
 *
 * 1 where both are all one class or both all singletons.
 */
export function adjustedRandIndex(a: GroupedLabels, b: GroupedLabels): number {
  const counts = new Int32Array(b.count);
  let both = 0;
  for (let k = 0, start = 0; k < a.count; start += a.sizes[k++]) {
    const end = start + a.sizes[k];
    // Each further member of one label of b forms a pair with those already seen.
    for (let m = start; m < end; m++) both += counts[b.ids[a.members[m]]]++;
    for (let m = start; m < end; m++) counts[b.ids[a.members[m]]] = 0;
  }
  return adjustedRand(
    { both, a: sumOfPairs(a.sizes), b: sumOfPairs(b.sizes) },
    a.ids.length,
  );
}

/** Instances that carry label `a` in one labelling and `b` in the other. */
type Cell = readonly [a: number, b: number, count: number];

function contingency(a: GroupedLabels, b: GroupedLabels): readonly Cell[] {
  const counts = new Int32Array(b.count);
  const cells: Cell[] = [];
  for (let k = 0, start = 0; k < a.count; start += a.sizes[k++]) {
    const end = start + a.sizes[k];
    for (let m = start; m < end; m++) counts[b.ids[a.members[m]]]++;
    for (let m = start; m < end; m++) {
      const id = b.ids[a.members[m]];
      if (counts[id] === 0) continue;
      cells.push([k, id, counts[id]]);
      counts[id] = 0;
    }
  }
  return cells;
}

/** Joined pairs in both, in a and in b. */
interface PairSums {
  readonly both: number;
  readonly a: number;
  readonly b: number;
}

function pairSums(
  cells: readonly Cell[],
  sizesA: Int32Array,
  sizesB: Int32Array,
): PairSums {
  let both = 0;
  for (const [, , count] of cells) both += pairsOf(count);
  return { both, a: sumOfPairs(sizesA), b: sumOfPairs(sizesB) };
}

function adjustedRand({ both, a, b }: PairSums, total: number): number {
  const all = pairsOf(total);
  if (all === 0) return 1;
  const expected = (a / all) * b;
  const most = (a + b) / 2;
  return most === expected ? 1 : (both - expected) / (most - expected);
}

function normalizedMutualInformation(
  cells: readonly Cell[],
  sizesA: Int32Array,
  sizesB: Int32Array,
): number {
  const total = sizesA.reduce((sum, size) => sum + size, 0);
  let information = 0;
  for (const [a, b, count] of cells)
    information +=
      (count / total) * Math.log((count * total) / (sizesA[a] * sizesB[b]));
  const mean = (entropy(sizesA, total) + entropy(sizesB, total)) / 2;
  return mean === 0 ? 1 : Math.max(0, information / mean);
}

function entropy(sizes: Int32Array, total: number): number {
  let sum = 0;
  for (const size of sizes) sum -= (size / total) * Math.log(size / total);
  return sum;
}

function pairsOf(count: number): number {
  return (count * (count - 1)) / 2;
}

function sumOfPairs(sizes: Int32Array): number {
  let sum = 0;
  for (const size of sizes) sum += pairsOf(size);
  return sum;
}
