import { randomStream } from "#core/random";

import {
  adjustedRandIndex,
  groupByLabel,
  type GroupedLabels,
} from "./agreement.js";
import type { ClusteringInput } from "./clustering-run.js";
import { dbscan, OUTLIER } from "./dbscan.js";
import {
  pairsFromEncoding,
  squaredDistance,
  type SparseDistances,
} from "./jaccard.js";
import {
  averageOverNeighbours,
  encodeRows,
  ReciprocalSets,
  type RowDistance,
} from "./reciprocal.js";
import { reliability } from "./reliability.js";

/** One point of the grid, with its figures. */
export interface CandidateSetting {
  readonly k1: number;
  readonly k2: number;
  readonly eps: number;
  /** Q: share of the instances in reliable clusters, times 1 − largest cluster / N; [0, 1], larger is better. */
  readonly stability: number;
  /** W: mean ARI with the stable clusterings; larger is better. */
  readonly agreement: number;
  /** Clusters at eps, before reliability. */
  readonly clusterCount: number;
  /** Outliers at eps. */
  readonly outlierCount: number;
}

/** How the grid is walked. */
export interface ConsensusOptions {
  readonly epsGap: number;
  readonly minSamples: number;
  /** The setting in force: kept unless the best one agrees more by over 0.02. */
  readonly current?: { readonly k1: number; readonly eps: number } | undefined;
  /** Where there are more instances, about this many are looked at, in whole neighbourhoods; absent: all. */
  readonly maxInstances?: number | undefined;
  /** Seed of that sample. */
  readonly seed: number;
}

/** The setting to use and why. */
export interface ConsensusChoice {
  readonly chosen: CandidateSetting;
  /** False where `current` stays. */
  readonly changed: boolean;
  /** All settings, k1 then eps rising. */
  readonly candidates: readonly CandidateSetting[];
  /** Instances the grid was walked with. */
  readonly instances: number;
}

/** The grid and the gain in W that a change must bring: spcl-reid's own, measured over 49 cases. */
const GRID_K1 = [8, 10, 12, 15, 20, 30] as const;
const GRID_EPS = [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7] as const;
const MIN_GAIN = 0.02;

/** Mutual links among so many nearest rows hold a sampled neighbourhood together: the grid's smallest k1. */
const LINK_NEIGHBOURS = 8;

/**
 * Chooses k1 and eps without labels: the clustering that most of the stable ones agree with.
 *
 *     Q(s) = (1/N) Σ_i [i is clustered] (1 − rComp(i)) (1 − rIndep(i)) × (1 − largest cluster / N)
 *     W(s) = mean of ARI(s, t) over all t ≠ s with Q(t) ≥ median Q;   the largest W wins
 *
 * A setting that finds no cluster, or nothing but one, has Q = 0 and neither wins nor is agreed with
 * while another finds something. Ties go to the larger Q, then to the smaller k1 and eps. k1 beyond
 * the lists' width are left out. Synchronous: call it in a worker (`ClusteringWorker.choose`).
 *
 * @throws {ShapeError} never: the buffers are those of a clustering
 */
export function chooseClustering(
  input: ClusteringInput,
  options: ConsensusOptions,
): ConsensusChoice {
  const count = input.features.length / input.dimension;
  const width = count === 0 ? 0 : input.neighbours.length / count;
  const fitting = GRID_K1.filter((k1) => k1 <= width);
  const grid = fitting.length > 0 ? fitting : [GRID_K1[0]];
  const rows = sampleNeighbourhoods(input, width, options);
  const distance = rememberingDistance(
    count,
    squaredDistance(input.features, input.dimension),
  );
  const maxDistance = Math.max(...GRID_EPS) + options.epsGap;
  // From the largest k1 down: its sets hold most of what the smaller ones ask for.
  const trials = [...grid].reverse().flatMap((k1) => {
    const shape = { count, width, k1, k2: k2For(k1) };
    const distances = sampledDistances(input, shape, {
      distance,
      rows,
      maxDistance,
    });
    return trialsOf(shape, distances, options);
  });
  trials.sort((a, b) => a.k1 - b.k1 || a.eps - b.eps);
  const candidates = withAgreement(trials);
  const best = candidates.reduce((a, b) => (isBetter(b, a) ? b : a));
  const inForce = candidates.find(
    ({ k1, eps }) => k1 === options.current?.k1 && eps === options.current.eps,
  );
  const changed =
    inForce === undefined || best.agreement > inForce.agreement + MIN_GAIN;
  const chosen = changed ? best : inForce;
  const instances = rows?.length ?? count;
  return { chosen, changed, candidates, instances };
}

/** k2 that goes with k1: a quarter of it, at least 2, and the paper's 6 at the paper's 30. */
export function k2For(k1: number): number {
  return k1 === 30 ? 6 : Math.max(2, Math.round(k1 / 4));
}

/** One setting's clustering, before it is compared. */
interface Trial extends Omit<CandidateSetting, "agreement"> {
  readonly labels: GroupedLabels;
}

interface Shape {
  readonly count: number;
  readonly width: number;
  readonly k1: number;
  readonly k2: number;
}

/** Jaccard distances between the sampled rows, exact: sets and weights are those of all rows. */
function sampledDistances(
  { neighbours }: ClusteringInput,
  { count, width, k1, k2 }: Shape,
  {
    distance,
    rows,
    maxDistance,
  }: {
    readonly distance: RowDistance;
    readonly rows: Int32Array | undefined;
    readonly maxDistance: number;
  },
): SparseDistances {
  const lists = { neighbours, width, k1, reach: Math.min(k1, width) };
  const encoded = encodeRows(
    new ReciprocalSets(count, lists),
    distance,
    rows && rowsBehind(rows, k2, { neighbours, width, count }),
  );
  const averaged = averageOverNeighbours(encoded, k2, lists, rows);
  return pairsFromEncoding(averaged, maxDistance, count);
}

/** Marks the sampled rows and those their averages are made of. */
function rowsBehind(
  rows: Int32Array,
  k2: number,
  {
    neighbours,
    width,
    count,
  }: { neighbours: Int32Array; width: number; count: number },
): Uint8Array {
  const needed = new Uint8Array(count);
  for (const i of rows) {
    needed[i] = 1;
    for (let p = i * width; p < i * width + Math.min(k2, width); p++)
      if (neighbours[p] >= 0) needed[neighbours[p]] = 1;
  }
  return needed;
}

function trialsOf(
  { k1, k2 }: Shape,
  distances: SparseDistances,
  { epsGap, minSamples }: ConsensusOptions,
): Trial[] {
  return GRID_EPS.map((eps) => {
    const base = dbscan(distances, { eps, minSamples });
    const tight = dbscan(distances, { eps: eps - epsGap, minSamples });
    const loose = dbscan(distances, { eps: eps + epsGap, minSamples });
    const { rComp, rIndep } = reliability({ base, tight, loose });
    let reliable = 0;
    let outlierCount = 0;
    const sizes: number[] = [];
    for (let i = 0; i < base.length; i++) {
      if (base[i] === OUTLIER) {
        outlierCount++;
        continue;
      }
      reliable += (1 - rComp[i]) * (1 - rIndep[i]);
      sizes[base[i]] = (sizes[base[i]] ?? 0) + 1;
    }
    const count = Math.max(1, base.length);
    const largest = sizes.reduce((most, size) => Math.max(most, size), 0);
    return {
      k1,
      k2,
      eps,
      stability: (reliable / count) * (1 - largest / count),
      clusterCount: sizes.length,
      outlierCount,
      labels: groupByLabel(base.map((id, i) => (id === OUTLIER ? -1 - i : id))),
    };
  });
}

function withAgreement(trials: readonly Trial[]): CandidateSetting[] {
  const middle = median(trials.map(({ stability }) => stability));
  const isAnyStable = trials.some(({ stability }) => stability > 0);
  const isReference = trials.map(
    ({ stability }) => stability >= middle && (stability > 0 || !isAnyStable),
  );
  const sums = new Float64Array(trials.length);
  for (let s = 0; s < trials.length; s++)
    for (let t = s + 1; t < trials.length; t++) {
      if (!isReference[s] && !isReference[t]) continue;
      const ari = adjustedRandIndex(trials[s].labels, trials[t].labels);
      if (isReference[t]) sums[s] += ari;
      if (isReference[s]) sums[t] += ari;
    }
  const references = isReference.filter(Boolean).length;
  return trials.map(({ labels: _, ...setting }, s) => ({
    ...setting,
    agreement: sums[s] / Math.max(1, references - (isReference[s] ? 1 : 0)),
  }));
}

function isBetter(a: CandidateSetting, b: CandidateSetting): boolean {
  if (a.stability > 0 !== b.stability > 0) return a.stability > 0;
  if (a.agreement !== b.agreement) return a.agreement > b.agreement;
  return a.stability > b.stability;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

/** Keeps each row's distances from call to call: the grid asks for nearly the same pairs at every k1. */
function rememberingDistance(count: number, compute: RowDistance): RowDistance {
  const known: (
    { members: Int32Array; distances: Float64Array } | undefined
  )[] = new Array(count);
  const place = new Int32Array(count).fill(-1);
  const missing = new Int32Array(count);
  const missingPlace = new Int32Array(count);
  const computed = new Float64Array(count);
  return (row, members, size, out) => {
    const old = known[row];
    if (old === undefined) {
      compute(row, members, size, out);
      known[row] = {
        members: members.slice(0, size),
        distances: out.slice(0, size),
      };
      return;
    }
    for (let m = 0; m < old.members.length; m++) place[old.members[m]] = m;
    let unknown = 0;
    for (let m = 0; m < size; m++) {
      const at = place[members[m]];
      if (at >= 0) out[m] = old.distances[at];
      else {
        missing[unknown] = members[m];
        missingPlace[unknown++] = m;
      }
    }
    for (let m = 0; m < old.members.length; m++) place[old.members[m]] = -1;
    compute(row, missing, unknown, computed);
    for (let m = 0; m < unknown; m++) out[missingPlace[m]] = computed[m];
  };
}

/**
 * A sample that keeps clusters whole: random rows, each with all that is mutually linked to it.
 *
 * A sample of single rows would thin out every cluster and ask for other settings than the whole does.
 *
 * @returns rising rows, or undefined where all are taken
 */
function sampleNeighbourhoods(
  { neighbours }: ClusteringInput,
  width: number,
  { maxInstances = Infinity, seed }: ConsensusOptions,
): Int32Array | undefined {
  const count = width === 0 ? 0 : neighbours.length / width;
  if (count <= maxInstances) return undefined;
  const order = randomStream(seed, "consensus sample").sample(count, count);
  const reach = Math.min(LINK_NEIGHBOURS, width);
  const largestGrowth = Math.max(64, maxInstances / 16);
  const isTaken = new Uint8Array(count);
  const queue = new Int32Array(count);
  let end = 0;
  for (let n = 0; n < count && end < maxInstances; n++) {
    if (isTaken[order[n]] === 1) continue;
    const start = end;
    isTaken[order[n]] = 1;
    queue[end++] = order[n];
    for (let head = start; head < end; head++) {
      if (end - start >= largestGrowth) break;
      const i = queue[head];
      for (let p = i * width; p < i * width + reach; p++) {
        const j = neighbours[p];
        if (j < 0 || isTaken[j] === 1) continue;
        const list = neighbours.subarray(j * width, j * width + reach);
        if (!list.includes(i)) continue;
        isTaken[j] = 1;
        queue[end++] = j;
      }
    }
  }
  return queue.slice(0, end).sort();
}
