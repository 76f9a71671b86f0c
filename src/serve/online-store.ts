import type { Store, StoreKey, Table } from "#core/store";
import { Turns } from "#index/turns";
import type { MemoryCluster, MemoryClustering } from "./online-clusters.js";
import type { IsForgottenRow } from "./online-forgetting.js";
import type { MemoryRow, MemoryRows } from "./online-rows.js";

/** What the store holds of a memory beside rows and clusterings. */
export interface MemoryState {
  /** Version that the rows' features are of. */
  readonly version: number;
  readonly dimension: number;
  readonly nextRow: number;
  /** Rows added since the last clustering. */
  readonly newRowCount: number;
}

/** Everything the store holds of one memory. */
export interface StoredMemory {
  readonly state: MemoryState | undefined;
  /** Seen longest ago first. */
  readonly rows: readonly MemoryRow[];
  /** The last two, older first. */
  readonly clusterings: readonly MemoryClustering[];
}

/** Rows written in one transaction: encoding them takes well under a millisecond at 2048 numbers a row. */
const ROWS_AT_ONCE = 64;

interface StoredRow {
  readonly cropId: string;
  readonly cameraId: string;
  readonly trackId: string;
  readonly capturedAtMs: number;
  /** Order in which rows were seen last. */
  readonly seen: number;
  /** float32 [D], little-endian. */
  readonly feature: Uint8Array;
  /** Left out by versions that kept none. */
  readonly cropHashes?: readonly string[];
}

interface StoredClustering extends Omit<
  MemoryClustering,
  "rows" | "clusterIds" | "pseudoLabels" | "clusters"
> {
  readonly rows: Uint8Array;
  readonly clusterIds: Uint8Array;
  readonly pseudoLabels: Uint8Array;
  readonly clusters: readonly (Omit<MemoryCluster, "prototype"> & {
    readonly prototype: Uint8Array;
  })[];
}

/** One memory's tables: rows, clusterings and state, under the model's name. */
export class MemoryStore {
  readonly #store: Store;
  readonly #name: string;
  readonly #rows: Table<StoredRow>;
  readonly #clusterings: Table<StoredClustering>;
  readonly #states: Table<MemoryState>;
  #seen = 0;

  constructor(store: Store, name: string) {
    this.#store = store;
    this.#name = name;
    this.#rows = store.table("memory-rows", "data");
    this.#clusterings = store.table("memory-clusterings", "data");
    this.#states = store.table("memory-states", "data");
  }

  /** What was written last. */
  read(): StoredMemory {
    const stored = [...this.#rows.range(this.#all())].sort(
      (a, b) => a.value.seen - b.value.seen,
    );
    this.#seen = (stored.at(-1)?.value.seen ?? 0) + 1;
    return {
      state: this.#states.get(this.#name),
      rows: stored.map(({ key, value: { feature, seen: _, ...facts } }) => ({
        ...facts,
        row: numberOf(key),
        cropHashes: facts.cropHashes ?? [],
        feature: new Float32Array(bufferOf(feature)),
      })),
      clusterings: [...this.#clusterings.range(this.#all())].map(({ value }) =>
        clusteringFrom(value),
      ),
    };
  }

  /**
   * Writes what has changed in the rows, and the state with the last of it; resolves after the flush.
   *
   * @throws {StoreFullError} or {StoreReadOnlyError}: what was not written stays with the rows
   */
  async writeRows(rows: MemoryRows, state: MemoryState): Promise<void> {
    const { changed, removed } = rows.takeChanges();
    let written = 0;
    try {
      do {
        const block = changed.slice(written, written + ROWS_AT_ONCE);
        await this.#store.write((writer) => {
          for (const row of written === 0 ? removed : [])
            writer.remove(this.#rows, [this.#name, row]);
          for (const number of block) {
            const row = rows.get(number);
            if (row !== undefined)
              writer.put(this.#rows, [this.#name, number], this.#stored(row));
          }
          writer.put(this.#states, this.#name, state);
        });
        written += ROWS_AT_ONCE;
      } while (written < changed.length);
    } catch (error) {
      rows.returnChanges(changed.slice(written), written === 0 ? removed : []);
      throw error;
    }
  }

  /** Writes a clustering with the state after it, and drops all but the last two; resolves after the flush. */
  async writeClustering(
    clustering: MemoryClustering,
    state: MemoryState,
  ): Promise<void> {
    await this.#store.write((writer) => {
      const key = [this.#name, clustering.number];
      writer.put(this.#clusterings, key, clusteringTo(clustering));
      writer.removeRange(this.#clusterings, {
        start: [this.#name, 0],
        end: [this.#name, clustering.number - 1],
      });
      writer.put(this.#states, this.#name, state);
    });
  }

  /** Forgets everything; resolves after the flush. */
  async clear(): Promise<void> {
    await this.#store.write((writer) => {
      writer.removeRange(this.#rows, this.#all());
      writer.removeRange(this.#clusterings, this.#all());
      writer.remove(this.#states, this.#name);
    });
  }

  #all(): { start: StoreKey; end: StoreKey } {
    return {
      start: [this.#name, 0],
      end: [this.#name, Number.MAX_SAFE_INTEGER],
    };
  }

  #stored({ row: _, feature, ...facts }: MemoryRow): StoredRow {
    return { ...facts, seen: this.#seen++, feature: bytesOf(feature) };
  }
}

/** Makes the memories' tables while the disk takes writes: forgetting looks into them where no online mode runs, too. */
export function makeMemoryTables(store: Store): void {
  store.table("memory-rows", "data");
  store.table("memory-clusterings", "data");
}

/** Stored rows decoded in one turn of the main thread. */
const DECODED_AT_ONCE = 64;

/**
 * Forgets rows of every memory while no online mode runs; clusterings that they were part of go whole, and are
 * made anew when one does.
 *
 * @returns how many there were
 * @throws {StoreFullError} @throws {StoreReadOnlyError}
 */
export async function forgetStoredRows(
  store: Store,
  isForgotten: IsForgottenRow,
): Promise<number> {
  const rows = store.table<StoredRow>("memory-rows", "data");
  const clusterings = store.table<StoredClustering>(
    "memory-clusterings",
    "data",
  );
  const turns = new Turns(DECODED_AT_ONCE);
  const gone: StoreKey[] = [];
  for (const { key, value } of rows.range()) {
    const { cropHashes = [] } = value;
    if (isForgotten({ ...value, cropHashes })) gone.push(key);
    if (turns.isOver) await turns.next();
  }
  if (gone.length === 0) return 0;
  const names = new Set(
    gone.map((key) => (Array.isArray(key) ? String(key[0]) : "")),
  );
  await store.write((writer) => {
    for (const key of gone) writer.remove(rows, key);
    for (const name of names)
      writer.removeRange(clusterings, {
        start: [name, 0],
        end: [name, Number.MAX_SAFE_INTEGER],
      });
  });
  return gone.length;
}

function numberOf(key: StoreKey): number {
  return Array.isArray(key) ? Number(key[1]) : 0;
}

/** A copy: rows move on while a write waits. */
function bytesOf(values: ArrayBufferView): Uint8Array {
  const { buffer, byteOffset, byteLength } = values;
  return new Uint8Array(buffer, byteOffset, byteLength).slice();
}

/** A copy, aligned, of what the store gave. */
function bufferOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function clusteringTo(clustering: MemoryClustering): StoredClustering {
  return {
    ...clustering,
    rows: bytesOf(clustering.rows),
    clusterIds: bytesOf(clustering.clusterIds),
    pseudoLabels: bytesOf(clustering.pseudoLabels),
    clusters: clustering.clusters.map((cluster) => ({
      ...cluster,
      prototype: bytesOf(cluster.prototype),
    })),
  };
}

function clusteringFrom(stored: StoredClustering): MemoryClustering {
  return {
    ...stored,
    rows: new Float64Array(bufferOf(stored.rows)),
    clusterIds: new Int32Array(bufferOf(stored.clusterIds)),
    pseudoLabels: new Int32Array(bufferOf(stored.pseudoLabels)),
    clusters: stored.clusters.map((cluster) => ({
      ...cluster,
      prototype: new Float32Array(bufferOf(cluster.prototype)),
    })),
  };
}
