import { ShapeError } from "#core/errors";

/** The label of a row that takes no part in the loss (`--outliers drop`). */
export const UNLABELLED = -1;

/** Rows, labels and a batch: what the direct form of the loss is a function of. */
export interface ContrastiveLossInput {
  /** float32 [R, D], rows of unit L2 norm; only read. */
  readonly rows: Float32Array;
  /** int32 [R]; gaps allowed; `UNLABELLED` rows are in no sum. */
  readonly labels: Int32Array;
  /** float32 [B, D], rows of unit L2 norm; only read. */
  readonly features: Float32Array;
  /** int32 [B]: the row each feature belongs to, in [0, R), labelled. */
  readonly ownRows: Int32Array;
  /** D. */
  readonly dimension: number;
  /** τ. */
  readonly temperature: number;
}

/** The loss of a batch and its gradient. */
export interface ContrastiveLoss {
  readonly loss: number;
  /** float32 [B, D]: ∂loss/∂features; owned by the caller. */
  readonly gradient: Float32Array;
}

/** Kept out of the logarithm of 0 and out of division by 0: yxgeee/SpCL spcl/models/hm.py, HybridMemory.forward. */
const EPSILON = 1e-6;

/**
 * Loss of a batch against all memory rows and its gradient, in the direct form that costs B·R·D.
 *
 *     s_{b,y} = (1/n_y) Σ_{r : label[r] = y} ⟨f_b, m_r⟩ / τ
 *     p_{b,y} = exp(s_{b,y}) / (Σ_{y'} exp(s_{b,y'}) + 1e-6)
 *     loss    = −(1/B) Σ_b log(p_{b, label[ρ(b)]} + 1e-6)
 *
 * Sums are taken in float64. A test's oracle; training multiplies by prototypes instead.
 *
 * Source: Ge et al. 2020, arXiv:2006.02713 (unified contrastive loss); both 1e-6 and the mask of
 * unused labels as in yxgeee/SpCL spcl/models/hm.py, HybridMemory.forward.
 *
 * @throws {ShapeError} a buffer does not fit the others
 */
export function contrastiveLoss(input: ContrastiveLossInput): ContrastiveLoss {
  const { rows, labels, features, ownRows, dimension, temperature } = input;
  expectLength("rows", rows, labels.length, dimension);
  expectLength("features", features, ownRows.length, dimension);
  const { prototypes, prototypeOf } = meansByLabel(rows, labels, dimension);
  const count = prototypes.length / dimension;
  const batch = ownRows.length;
  const gradient = new Float32Array(batch * dimension);
  const exps = new Float64Array(count);
  let loss = 0;
  for (let b = 0; b < batch; b++) {
    const own = prototypeOf[ownRows[b]];
    let sum = EPSILON;
    for (let k = 0; k < count; k++) {
      let dot = 0;
      for (let d = 0; d < dimension; d++)
        dot += features[b * dimension + d] * prototypes[k * dimension + d];
      exps[k] = Math.exp(dot / temperature);
      sum += exps[k];
    }
    const own_p = exps[own] / sum;
    loss -= Math.log(own_p + EPSILON) / batch;
    // dloss/ds_k = −(1/B) · p_own / (p_own + 1e-6) · ([k = own] − p_k)
    const scale = -own_p / (own_p + EPSILON) / batch / temperature;
    for (let d = 0; d < dimension; d++) {
      let mean = 0;
      for (let k = 0; k < count; k++)
        mean += (exps[k] / sum) * prototypes[k * dimension + d];
      gradient[b * dimension + d] =
        scale * (prototypes[own * dimension + d] - mean);
    }
  }
  return { loss, gradient };
}

/**
 * Moves one row towards a feature.
 *
 *     v ← m·v + (1 − m)·f,  then v ← v / ‖v‖₂
 *
 * Source: Ge et al. 2020, arXiv:2006.02713 (momentum update of the hybrid memory).
 *
 * @param row       float32 [D], unit L2 norm; changed in place
 * @param feature   float32 [D]; only read
 * @param memoryMomentum  m in [0, 1], the share of the old row that stays
 */
export function moveRow(
  row: Float32Array,
  feature: ArrayLike<number>,
  memoryMomentum: number,
): void {
  let squares = 0;
  for (let d = 0; d < row.length; d++) {
    // Stored as float32 before the norm is taken, as the reference does.
    row[d] = memoryMomentum * row[d] + (1 - memoryMomentum) * feature[d];
    squares += row[d] * row[d];
  }
  // A row and its opposite at m = ½ cancel out: then the row stays zero rather than becoming NaN.
  const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  for (let d = 0; d < row.length; d++) row[d] *= scale;
}

/**
 * First rows of the source classes: the mean of each class's features, then L2.
 *
 * @param features     float32 [M, D], unit rows; only read
 * @param classes      int32 [M], each in [0, classCount)
 * @param classCount   S; a class without a feature gets a zero row
 * @param dimension    D
 * @returns            float32 [S, D], owned by the caller
 * @throws {ShapeError} features is not [M, D]
 */
export function sourceCentroids(
  features: Float32Array,
  classes: Int32Array,
  classCount: number,
  dimension: number,
): Float32Array {
  expectLength("features", features, classes.length, dimension);
  const sums = new Float64Array(classCount * dimension);
  for (let i = 0; i < classes.length; i++)
    for (let d = 0; d < dimension; d++)
      sums[classes[i] * dimension + d] += features[i * dimension + d];
  const rows = new Float32Array(classCount * dimension);
  for (let c = 0; c < classCount; c++) {
    let squares = 0;
    for (let d = 0; d < dimension; d++) squares += sums[c * dimension + d] ** 2;
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let d = 0; d < dimension; d++)
      rows[c * dimension + d] = sums[c * dimension + d] * scale;
  }
  return rows;
}

/** What a hybrid memory starts from. */
export interface HybridMemoryOptions {
  /** float32 [R, D], unit rows: S source classes, then N target instances; kept and changed in place. */
  readonly rows: Float32Array;
  /** D. */
  readonly dimension: number;
  /** S; 0 in USL. */
  readonly sourceClasses: number;
  /** m in [0, 1], the share of the old row that stays at an update; 0.2 in the paper. */
  readonly memoryMomentum: number;
}

/**
 * One row per source class and per target instance, with the prototype of every label kept beside.
 *
 * A prototype is the plain mean of the rows of its label, not normalized; it moves with each row at
 * a cost of D. Every row starts with a label of its own (row number).
 *
 * Source: Ge et al. 2020, arXiv:2006.02713; yxgeee/SpCL spcl/models/hm.py.
 */
export class HybridMemory {
  /** float32 [R, D]; changed by the updates. */
  readonly rows: Float32Array;
  readonly dimension: number;
  /** R. */
  readonly rowCount: number;
  /** S. */
  readonly sourceClasses: number;
  readonly memoryMomentum: number;
  #labels: Int32Array;
  #prototypeOf: Int32Array;
  #prototypes: Float32Array;
  #memberCounts: Int32Array;
  readonly #before: Float32Array;

  /** @throws {ShapeError} rows is not [R, D], or R < S */
  constructor(options: HybridMemoryOptions) {
    const { rows, dimension, sourceClasses, memoryMomentum } = options;
    const rowCount = rows.length / dimension;
    if (!Number.isInteger(rowCount) || rowCount < sourceClasses)
      throw new ShapeError(
        "memory rows",
        `[R, ${dimension}] with R ≥ ${sourceClasses}`,
        `${rows.length} numbers`,
      );
    this.rows = rows;
    this.dimension = dimension;
    this.rowCount = rowCount;
    this.sourceClasses = sourceClasses;
    this.memoryMomentum = memoryMomentum;
    this.#before = new Float32Array(dimension);
    this.#labels = Int32Array.from({ length: rowCount }, (_, r) => r);
    const means = meansByLabel(rows, this.#labels, dimension);
    this.#prototypes = means.prototypes;
    this.#prototypeOf = means.prototypeOf;
    this.#memberCounts = means.memberCounts;
  }

  /** int32 [R], as set last; only read. */
  get labels(): Int32Array {
    return this.#labels;
  }

  /** K, the number of labels in use. */
  get prototypeCount(): number {
    return this.#memberCounts.length;
  }

  /**
   * float32 [K, D], one mean per label in use, by rising label; the memory's own buffer, changed by
   * updates and replaced by `setLabels`; only read.
   */
  get prototypes(): Float32Array {
    return this.#prototypes;
  }

  /** int32 [R]: the prototype of each row, in [0, K), or `UNLABELLED`; only read, replaced by `setLabels`. */
  get prototypeOf(): Int32Array {
    return this.#prototypeOf;
  }

  /** int32 [K]: rows of each prototype; only read. */
  get memberCounts(): Int32Array {
    return this.#memberCounts;
  }

  /**
   * Takes the labels of a new clustering and computes all prototypes anew.
   *
   * @param labels  int32 [R]; may have gaps; `UNLABELLED` rows get no prototype; copied
   * @throws {ShapeError} labels is not [R]
   */
  setLabels(labels: Int32Array): void {
    if (labels.length !== this.rowCount)
      throw new ShapeError(
        "labels",
        `[${this.rowCount}]`,
        `[${labels.length}]`,
      );
    this.#labels = labels.slice();
    this.recomputePrototypes();
  }

  /**
   * Labels of all rows from the target's pseudo labels: label[c] = c, label[S + i] = S + pseudo[i].
   *
   * @param pseudoLabels  int32 [N], ≥ 0 or `UNLABELLED`
   * @throws {ShapeError} pseudoLabels is not [R − S]
   */
  setTargetLabels(pseudoLabels: Int32Array): void {
    const labels = new Int32Array(this.sourceClasses + pseudoLabels.length);
    for (let c = 0; c < this.sourceClasses; c++) labels[c] = c;
    for (let i = 0; i < pseudoLabels.length; i++)
      labels[this.sourceClasses + i] =
        pseudoLabels[i] < 0 ? UNLABELLED : this.sourceClasses + pseudoLabels[i];
    this.setLabels(labels);
  }

  /** Computes all prototypes from the rows: needed after rows were written from outside. */
  recomputePrototypes(): void {
    const means = meansByLabel(this.rows, this.#labels, this.dimension);
    this.#prototypes = means.prototypes;
    this.#prototypeOf = means.prototypeOf;
    this.#memberCounts = means.memberCounts;
  }

  /** float32 [N, D]: the target's rows, a view on the memory's own buffer. */
  targetRows(): Float32Array {
    return this.rows.subarray(this.sourceClasses * this.dimension);
  }

  /**
   * Moves rows towards the features just seen, one after another, in batch order.
   *
   *     v ← m·v + (1 − m)·f,  then v ← v / ‖v‖₂
   *
   * Source: Ge et al. 2020, arXiv:2006.02713; order and renormalization as in the reference,
   * yxgeee/SpCL spcl/models/hm.py, HM.backward.
   *
   * @param rows      int32 [B], in [0, R); duplicates apply twice
   * @param features  float32 [B, D], unit rows; only read
   * @throws {ShapeError} features is not [B, D]
   */
  update(rows: Int32Array, features: Float32Array): void {
    const { dimension } = this;
    expectLength("features", features, rows.length, dimension);
    for (let b = 0; b < rows.length; b++)
      this.#move(
        rows[b],
        features.subarray(b * dimension, (b + 1) * dimension),
      );
  }

  /**
   * Moves each source row once, towards the mean of its class's features in the batch.
   *
   *     m_c ← m·m_c + (1 − m)·(mean of the batch's unit features of class c),  then L2
   *
   * The mean is not normalized. Source: Ge et al. 2020, arXiv:2006.02713 (source-domain update).
   *
   * @param classes   int32 [B], in [0, S); classes move in rising order
   * @param features  float32 [B, D], unit rows; only read
   * @throws {ShapeError} features is not [B, D]
   */
  updateSourceMean(classes: Int32Array, features: Float32Array): void {
    const { dimension } = this;
    expectLength("features", features, classes.length, dimension);
    const means = meansByLabel(features, classes, dimension);
    const seen = [...new Set(classes)].sort((a, b) => a - b);
    seen.forEach((row, k) =>
      this.#move(
        row,
        means.prototypes.subarray(k * dimension, (k + 1) * dimension),
      ),
    );
  }

  #move(row: number, feature: Float32Array): void {
    const { dimension } = this;
    const view = this.rows.subarray(row * dimension, (row + 1) * dimension);
    this.#before.set(view);
    moveRow(view, feature, this.memoryMomentum);
    const k = this.#prototypeOf[row];
    if (k < 0) return;
    const share = 1 / this.#memberCounts[k];
    const start = k * dimension;
    if (share === 1) {
      this.#prototypes.set(view, start);
      return;
    }
    for (let d = 0; d < dimension; d++)
      this.#prototypes[start + d] += (view[d] - this.#before[d]) * share;
  }
}

interface Means {
  readonly prototypes: Float32Array;
  readonly prototypeOf: Int32Array;
  readonly memberCounts: Int32Array;
}

/** Mean row per label in use, by rising label; rows are added in index order. */
function meansByLabel(
  rows: Float32Array,
  labels: Int32Array,
  dimension: number,
): Means {
  const used = [...new Set(labels)]
    .filter((label) => label >= 0)
    .sort((a, b) => a - b);
  const position = new Map(used.map((label, k) => [label, k]));
  const prototypeOf = new Int32Array(labels.length);
  const memberCounts = new Int32Array(used.length);
  for (let r = 0; r < labels.length; r++) {
    prototypeOf[r] = position.get(labels[r]) ?? UNLABELLED;
    if (prototypeOf[r] >= 0) memberCounts[prototypeOf[r]]++;
  }
  const members = membersByLabel(prototypeOf, memberCounts);
  const prototypes = new Float32Array(used.length * dimension);
  const sum = new Float64Array(dimension);
  for (let k = 0, m = 0; k < used.length; k++) {
    sum.fill(0);
    for (let n = 0; n < memberCounts[k]; n++, m++) {
      const start = members[m] * dimension;
      for (let d = 0; d < dimension; d++) sum[d] += rows[start + d];
    }
    for (let d = 0; d < dimension; d++)
      prototypes[k * dimension + d] = sum[d] / memberCounts[k];
  }
  return { prototypes, prototypeOf, memberCounts };
}

/** Rows grouped by label, each group in index order. */
function membersByLabel(
  prototypeOf: Int32Array,
  memberCounts: Int32Array,
): Int32Array {
  const next = new Int32Array(memberCounts.length);
  let total = 0;
  for (let k = 0; k < memberCounts.length; k++) {
    next[k] = total;
    total += memberCounts[k];
  }
  const members = new Int32Array(total);
  for (let r = 0; r < prototypeOf.length; r++)
    if (prototypeOf[r] >= 0) members[next[prototypeOf[r]]++] = r;
  return members;
}

function expectLength(
  name: string,
  buffer: Float32Array,
  rows: number,
  dimension: number,
): void {
  if (buffer.length !== rows * dimension)
    throw new ShapeError(
      name,
      `[${rows}, ${dimension}]`,
      `${buffer.length} numbers`,
    );
}
