import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import { ClosedError, ReidError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";
import { NoClustersError } from "#memory/errors";
import { OnlineClusterer } from "./online-clusterer.js";
import {
  positionOf,
  type MemoryCluster,
  type MemoryClustering,
} from "./online-clusters.js";
import { DriftMonitor } from "./online-drift.js";
import { ClusteringGoneError, ClusterNotFoundError } from "./online-errors.js";
import { withoutRows, type IsForgottenRow } from "./online-forgetting.js";
import { faissNeighbours, type FindNeighbours } from "./online-neighbours.js";
import { MemoryRows, type MemoryRow, type SeenCrop } from "./online-rows.js";
import { MemoryStore, type MemoryState } from "./online-store.js";
import type { Operation } from "./operation-types.js";
import type { OperationLog } from "./operations.js";
import type { ModelVersion } from "./registry.js";

/** What GetMemory says. */
export interface MemoryFacts {
  /** The model's name. */
  readonly name: string;
  readonly model: ModelVersion;
  /** D. */
  readonly dimension: number;
  /** `degraded`: the last clustering failed, the one before stays in force. */
  readonly state: "learning" | "clustering" | "degraded";
  /** R. */
  readonly rowCount: number;
  readonly maxRows: number;
  readonly clusterCount: number;
  readonly outlierCount: number;
  /** Number of the last clustering; 0: none yet. */
  readonly clustering: number;
  /** Milliseconds since 1970. */
  readonly clusteredAtMs: number | undefined;
  /** Rows added since the last clustering. */
  readonly newRowCount: number;
  readonly eps: number;
  /** [0, 1]; undefined: too few crops. */
  readonly drift: number | undefined;
  /** Why the last clustering failed. */
  readonly error: ReidError | undefined;
}

/** One row as a clustering has it. */
export interface ClusteredRow extends MemoryRow {
  /** −1: outlier. */
  readonly clusterId: number;
  /** After reliability. */
  readonly pseudoLabel: number;
  /** Empty for outliers. */
  readonly pseudoIdentity: string;
}

/** Which rows of a clustering. */
export interface RowQuery {
  /** Default: the last. */
  readonly clustering?: number | undefined;
  /** −1: outliers; undefined: all. */
  readonly clusterId?: number | undefined;
  /** Rows above this number; default from the first. */
  readonly afterRow?: number | undefined;
  readonly limit: number;
}

/** What a memory needs. */
export interface MemoryOptions {
  readonly model: ModelVersion;
  readonly dimension: number;
  readonly config: Config["memory"];
  readonly store: Store;
  readonly operations: OperationLog;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly log: Log;
  /** Default FAISS. */
  readonly neighbours?: FindNeighbours | undefined;
}

/**
 * The hybrid memory of one model's traffic: it learns from embedded crops and clusters them from time to time.
 *
 * `observe` costs a copy and returns at once. Rows reach the disk within `memory.flush_ms`, a crash may cost
 * those of that time. Clustering runs in a worker; the one in force is replaced only by a finished one.
 */
export class OnlineMemory {
  readonly #options: MemoryOptions;
  readonly #rows: MemoryRows;
  readonly #store: MemoryStore;
  readonly #clusterer: OnlineClusterer;
  readonly #drift = new DriftMonitor();
  readonly #abort = new AbortController();
  readonly #stopObserving: readonly (() => void)[];
  /** The last two, older first. */
  #clusterings: readonly MemoryClustering[] = [];
  #newRowCount = 0;
  /** Rows added or moved since the last clustering began. */
  #changeCount = 0;
  #clusteringCount = 0;
  #lastEndedMs = -Infinity;
  #clusterTimer: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #flushTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #error: ReidError | undefined;
  #isStoreFailing = false;
  #isClosed = false;

  private constructor(options: MemoryOptions) {
    this.#options = options;
    this.#rows = new MemoryRows(options.config);
    this.#store = new MemoryStore(options.store, options.model.name);
    this.#clusterer = new OnlineClusterer(
      options.config,
      options.neighbours ?? faissNeighbours,
    );
    this.#stopObserving = this.#observeGauges();
  }

  /**
   * Takes up what the store holds.
   *
   * Rows of another version of the model are features that nothing can be compared with: they are dropped,
   * and the log says so.
   */
  static async open(options: MemoryOptions): Promise<OnlineMemory> {
    const memory = new OnlineMemory(options);
    await memory.#restore();
    return memory;
  }

  /** The version whose features it holds. */
  get model(): ModelVersion {
    return this.#options.model;
  }

  /** Learns from crops just embedded; returns at once. Crops of another version are left out. */
  observe(model: ModelVersion, crops: readonly SeenCrop[]): void {
    const { version, name } = this.#options.model;
    if (this.#isClosed || model.version !== version || model.name !== name)
      return;
    for (const crop of crops) {
      if (this.#rows.observe(crop) === "added") this.#newRowCount += 1;
      this.#changeCount += 1;
      this.#drift.offer(crop.feature);
    }
    this.#planFlush(this.#options.config.flushMs);
    this.#clusterIfDue();
  }

  /** Counts, state and drift. */
  facts(): MemoryFacts {
    const { model, dimension, config } = this.#options;
    const last = this.#clusterings.at(-1);
    const idle = this.#error === undefined ? "learning" : "degraded";
    return {
      name: model.name,
      model,
      dimension,
      state: this.#clusteringCount > 0 ? "clustering" : idle,
      rowCount: this.#rows.size,
      maxRows: config.maxRows,
      clusterCount: last?.clusters.length ?? 0,
      outlierCount: last?.outlierCount ?? 0,
      clustering: last?.number ?? 0,
      clusteredAtMs: last?.clusteredAtMs,
      newRowCount: this.#newRowCount,
      eps: last?.eps ?? config.eps,
      drift: this.#drift.drift(),
      error: this.#error,
    };
  }

  /**
   * Clusters of one clustering with at least so many rows, by size falling, then cluster id.
   *
   * @param number  default: the last
   * @throws {NoClustersError} nothing was clustered yet
   * @throws {ClusteringGoneError} not one of the last two
   */
  clusters(
    minSize = 2,
    number?: number,
  ): {
    readonly clustering: number;
    readonly clusters: readonly MemoryCluster[];
  } {
    const clustering = this.#clustering(number);
    const clusters = clustering.clusters.filter(({ size }) => size >= minSize);
    return { clustering: clustering.number, clusters };
  }

  /**
   * Rows of one clustering that are still in memory, by number.
   *
   * @throws {NoClustersError} @throws {ClusteringGoneError} @throws {ClusterNotFoundError}
   */
  rows(query: RowQuery): {
    readonly clustering: number;
    readonly rows: readonly ClusteredRow[];
  } {
    const clustering = this.#clustering(query.clustering);
    const { clusterId, afterRow = -1, limit } = query;
    const identities = new Map(
      clustering.clusters.map((one) => [one.clusterId, one.pseudoIdentity]),
    );
    if (clusterId !== undefined && clusterId >= 0 && !identities.has(clusterId))
      throw new ClusterNotFoundError(clusterId, clustering.number);
    const rows: ClusteredRow[] = [];
    const { clusterIds, pseudoLabels } = clustering;
    for (let i = 0; i < clusterIds.length && rows.length < limit; i++) {
      if (clustering.rows[i] <= afterRow) continue;
      if (clusterId !== undefined && clusterIds[i] !== clusterId) continue;
      const row = this.#rows.get(clustering.rows[i]);
      if (row === undefined) continue;
      rows.push({
        ...row,
        clusterId: clusterIds[i],
        pseudoLabel: pseudoLabels[i],
        pseudoIdentity: identities.get(clusterIds[i]) ?? "",
      });
    }
    return { clustering: clustering.number, rows };
  }

  /** The cluster id of a row in the last clustering; −1: outlier, or newer than that. */
  clusterOf(row: number): number {
    const last = this.#clusterings.at(-1);
    const position = last === undefined ? -1 : positionOf(last, row);
    return last === undefined || position < 0 ? -1 : last.clusterIds[position];
  }

  /**
   * Forgets rows, and takes them out of the clusterings; resolves when that is on disk.
   *
   * @returns how many there were
   * @throws {StoreFullError} @throws {StoreReadOnlyError} they are tried again with the next write
   */
  async forget(isForgotten: IsForgottenRow): Promise<number> {
    // A clustering under way would bring them back.
    await this.#last.catch(() => undefined);
    const gone = new Set(
      this.#rows
        .sorted()
        .filter(isForgotten)
        .map(({ row }) => row),
    );
    if (gone.size === 0) return 0;
    this.#rows.forget(gone);
    while (this.#flushing !== undefined) await this.#flushing;
    this.#flushing = this.#store.writeRows(this.#rows, this.#state());
    try {
      await this.#flushing;
    } finally {
      this.#flushing = undefined;
    }
    const clusterings = this.#clusterings.map((one) =>
      withoutRows(one, gone, (row) => this.#rows.get(row)),
    );
    for (const one of clusterings)
      await this.#store.writeClustering(one, this.#state());
    this.#clusterings = clusterings;
    return gone.size;
  }

  /**
   * Starts a clustering after those under way, and answers at once.
   *
   * @param eps  (0, 1]; default the one in force
   */
  recluster(eps?: number): Promise<Operation> {
    if (this.#isClosed) return Promise.reject(new ClosedError("online memory"));
    const { operations, model } = this.#options;
    return operations.start(
      "recluster",
      `memory/${model.name}`,
      async ({ signal, report }) => {
        const rowCount = this.#rows.size;
        report(0, rowCount);
        const made = await this.#cluster(eps, signal);
        report(rowCount, rowCount);
        return {
          kind: "recluster",
          clustering: made.number,
          clusterCount: made.clusters.length,
          outlierCount: made.outlierCount,
          eps: made.eps,
        };
      },
    );
  }

  /** Waits until clusterings under way have ended and everything seen so far is on disk. */
  async settle(): Promise<void> {
    await this.#last.catch(() => undefined);
    await this.#drift.settle();
    await this.#flush();
  }

  /** Stops clustering, writes what is left, and waits for it; idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const stop of this.#stopObserving) stop();
    this.#abort.abort();
    await this.#last.catch(() => undefined);
    await this.#clusterer.close();
    clearTimeout(this.#clusterTimer);
    clearTimeout(this.#flushTimer);
    await this.#flush();
    clearTimeout(this.#flushTimer);
  }

  async #restore(): Promise<void> {
    const { model, dimension, log } = this.#options;
    const { state, rows, clusterings } = this.#store.read();
    if (state === undefined) return;
    if (state.version !== model.version || state.dimension !== dimension) {
      log.warn("memory of another model version dropped", {
        memory: model.name,
        rows: rows.length,
        of: state.version,
        now: model.version,
      });
      await this.#store.clear();
      return;
    }
    this.#rows.restore(rows, Math.max(state.nextRow, afterLast(rows)));
    this.#clusterings = clusterings;
    this.#newRowCount = state.newRowCount;
    this.#changeCount = state.newRowCount;
    this.#drift.setPrototypes(prototypesOf(clusterings.at(-1)));
    this.#clusterIfDue();
  }

  #state(): MemoryState {
    const { model, dimension } = this.#options;
    return {
      version: model.version,
      dimension,
      nextRow: this.#rows.nextRow,
      newRowCount: this.#newRowCount,
    };
  }

  #clustering(number: number | undefined): MemoryClustering {
    const last = this.#clusterings.at(-1);
    const { eps, minSamples } = this.#options.config;
    if (last === undefined)
      throw new NoClustersError(eps, minSamples, this.#rows.size);
    if (number === undefined || number === 0) return last;
    const found = this.#clusterings.find((one) => one.number === number);
    if (found === undefined) throw new ClusteringGoneError(number, last.number);
    return found;
  }

  /** Clusters where enough rows have changed: now, or when the least time since the last clustering is over. */
  #clusterIfDue(): void {
    const { config, clock, log, model } = this.#options;
    if (
      this.#isClosed ||
      this.#clusteringCount > 0 ||
      this.#changeCount < config.reclusterRows
    )
      return;
    const leftMs =
      this.#lastEndedMs + config.reclusterMinMs - clock.monotonic();
    if (leftMs > 0) {
      this.#clusterTimer ??= setTimeout(() => {
        this.#clusterTimer = undefined;
        this.#clusterIfDue();
      }, leftMs);
      return;
    }
    this.#cluster(undefined, this.#abort.signal).catch((error: unknown) => {
      if (!this.#isClosed)
        log.error("clustering failed, the one before stays in force", {
          memory: model.name,
          error,
        });
    });
  }

  #cluster(
    eps: number | undefined,
    signal: AbortSignal,
  ): Promise<MemoryClustering> {
    this.#clusteringCount += 1;
    const both = AbortSignal.any([signal, this.#abort.signal]);
    const turn = this.#last
      .catch(() => undefined)
      .then(() => this.#clusterNow(eps, both))
      .finally(() => {
        this.#clusteringCount -= 1;
        this.#lastEndedMs = this.#options.clock.monotonic();
        // Traffic may have stopped since: nobody else would ask.
        this.#clusterIfDue();
      });
    this.#last = turn;
    return turn;
  }

  async #clusterNow(
    eps: number | undefined,
    signal: AbortSignal,
  ): Promise<MemoryClustering> {
    const { dimension, clock, telemetry, model } = this.#options;
    if (signal.aborted) throw new ClosedError("online memory");
    const started = clock.monotonic();
    const newBefore = this.#newRowCount;
    this.#changeCount = 0;
    const measure = (outcome: string) =>
      telemetry.record(
        "reid.memory.clustering.duration",
        (clock.monotonic() - started) / 1000,
        { model: model.name, outcome },
      );
    try {
      const made = await this.#clusterer.cluster({
        rows: this.#rows.sorted(),
        dimension,
        before: this.#clusterings.at(-1),
        eps,
        now: () => clock.now(),
        signal,
      });
      const newRowCount = this.#newRowCount - newBefore;
      await this.#store.writeClustering(made, {
        ...this.#state(),
        newRowCount,
      });
      this.#newRowCount -= newBefore;
      this.#clusterings = [...this.#clusterings.slice(-1), made];
      this.#error = undefined;
      this.#drift.setPrototypes(prototypesOf(made));
      measure("ok");
      return made;
    } catch (error) {
      if (error instanceof ReidError && error.kind !== "cancelled")
        this.#error = error;
      measure(error instanceof ReidError ? error.code : "INTERNAL");
      throw error;
    }
  }

  #planFlush(waitMs: number): void {
    this.#flushTimer ??= setTimeout(() => {
      this.#flushTimer = undefined;
      void this.#flush();
    }, waitMs);
  }

  /** One write at a time; what changes meanwhile is written by the next. Never rejects. */
  async #flush(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
    if (!this.#rows.hasChanges) return;
    this.#flushing = this.#flushNow().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  async #flushNow(): Promise<void> {
    const { config, log, model } = this.#options;
    try {
      await this.#store.writeRows(this.#rows, this.#state());
      if (this.#isStoreFailing)
        log.info("memory rows reach the disk again", { memory: model.name });
      this.#isStoreFailing = false;
    } catch (error) {
      // Rows stay marked as changed and are bounded by max_rows: trying again later loses nothing.
      if (!this.#isStoreFailing)
        log.error("memory rows could not be written, trying again", {
          memory: model.name,
          error,
        });
      this.#isStoreFailing = true;
      if (!this.#isClosed) this.#planFlush(10 * config.flushMs);
    }
  }

  #observeGauges(): readonly (() => void)[] {
    const { telemetry, model, clock } = this.#options;
    const attributes = { model: model.name };
    const one = (read: () => number | undefined) => () => {
      const value = read();
      return value === undefined ? [] : [{ value, attributes }];
    };
    return [
      telemetry.observe(
        "reid.memory.rows",
        one(() => this.#rows.size),
      ),
      telemetry.observe(
        "reid.memory.clusters",
        one(() => this.facts().clusterCount),
      ),
      telemetry.observe(
        "reid.memory.outliers",
        one(() => this.facts().outlierCount),
      ),
      telemetry.observe(
        "reid.memory.drift",
        one(() => this.#drift.drift()),
      ),
      telemetry.observe(
        "reid.memory.clustering.age",
        one(() => {
          const at = this.#clusterings.at(-1)?.clusteredAtMs;
          return at === undefined ? undefined : (clock.now() - at) / 1000;
        }),
      ),
    ];
  }
}

function prototypesOf(
  clustering: MemoryClustering | undefined,
): readonly Float32Array[] {
  return clustering?.clusters.map((cluster) => cluster.prototype) ?? [];
}

function afterLast(rows: readonly MemoryRow[]): number {
  return rows.reduce((next, { row }) => Math.max(next, row + 1), 0);
}
