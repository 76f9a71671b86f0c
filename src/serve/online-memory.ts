import { ClosedError, ReidError } from "#core/errors";
import { OnlineClusterer } from "./online-clusterer.js";
import { MemoryClusterings } from "./online-clusterings.js";
import type { MemoryCluster, MemoryClustering } from "./online-clusters.js";
import { DriftMonitor } from "./online-drift.js";
import { RowFlushes } from "./online-flushes.js";
import { withoutRows, type IsForgottenRow } from "./online-forgetting.js";
import { observeMemory } from "./online-gauges.js";
import type {
  ClusteredRow,
  MemoryFacts,
  MemoryOptions,
  RowQuery,
} from "./online-memory-types.js";
import { faissNeighbours } from "./online-neighbours.js";
import { MemoryRows, type MemoryRow, type SeenCrop } from "./online-rows.js";
import { MemoryStore, type MemoryState } from "./online-store.js";
import type { Operation } from "./operation-types.js";
import type { ModelVersion } from "./registry.js";

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
  readonly #clusterings: MemoryClusterings;
  readonly #flushes: RowFlushes;
  readonly #stopObserving: () => void;
  #newRowCount = 0;
  /** Rows added or moved since the last clustering began. */
  #changeCount = 0;
  #clusteringCount = 0;
  #lastEndedMs = -Infinity;
  #clusterTimer: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #error: ReidError | undefined;
  #isClosed = false;

  private constructor(options: MemoryOptions) {
    this.#options = options;
    this.#rows = new MemoryRows(options.config);
    this.#store = new MemoryStore(options.store, options.model.name);
    this.#clusterer = new OnlineClusterer(
      options.config,
      options.neighbours ?? faissNeighbours,
    );
    this.#clusterings = new MemoryClusterings(this.#rows, options.config);
    this.#flushes = new RowFlushes({
      ...options,
      rows: this.#rows,
      store: this.#store,
      state: () => this.#state(),
    });
    this.#stopObserving = observeMemory(options.telemetry, options.clock, () =>
      this.facts(),
    );
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
    this.#flushes.plan();
    this.#clusterIfDue();
  }

  /** Counts, state and drift. */
  facts(): MemoryFacts {
    const { model, dimension, config } = this.#options;
    const { last } = this.#clusterings;
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
    return this.#clusterings.clusters(minSize, number);
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
    return this.#clusterings.rows(query);
  }

  /** The cluster id of a row in the last clustering; −1: outlier, or newer than that. */
  clusterOf(row: number): number {
    return this.#clusterings.clusterOf(row);
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
    await this.#flushes.write();
    const clusterings = this.#clusterings.all.map((one) =>
      withoutRows(one, gone, (row) => this.#rows.get(row)),
    );
    for (const one of clusterings)
      await this.#store.writeClustering(one, this.#state());
    this.#clusterings.restore(clusterings);
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
    await this.#flushes.flush();
  }

  /** Stops clustering, writes what is left, and waits for it; idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopObserving();
    this.#abort.abort();
    await this.#last.catch(() => undefined);
    await this.#clusterer.close();
    clearTimeout(this.#clusterTimer);
    await this.#flushes.close();
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
    this.#clusterings.restore(clusterings);
    this.#newRowCount = state.newRowCount;
    this.#changeCount = state.newRowCount;
    this.#drift.setPrototypes(this.#clusterings.prototypes);
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
        before: this.#clusterings.last,
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
      this.#clusterings.add(made);
      this.#error = undefined;
      this.#drift.setPrototypes(this.#clusterings.prototypes);
      measure("ok");
      return made;
    } catch (error) {
      if (error instanceof ReidError && error.kind !== "cancelled")
        this.#error = error;
      measure(error instanceof ReidError ? error.code : "INTERNAL");
      throw error;
    }
  }
}

function afterLast(rows: readonly MemoryRow[]): number {
  return rows.reduce((next, { row }) => Math.max(next, row + 1), 0);
}
