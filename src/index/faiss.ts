import { ClosedError, ReidError, ShapeError } from "#core/errors";
import { addonPath, loadAddon } from "#core/native-addon";

import {
  BindingMissingError,
  IndexFailedError,
  SearchCancelledError,
  SnapshotCorruptError,
} from "./errors.js";
import {
  hnswDefaults,
  ivfDefaults,
  type FeatureStorage,
  type IndexKind,
  type IndexSpec,
  type ProductCode,
} from "./index-kinds.js";
import type {
  IdFilter,
  IndexFacts,
  IndexSearchOptions,
  Neighbours,
  VectorIndex,
} from "./vector-index.js";

interface NativeIndex {
  add(ids: Float64Array, features: Float32Array): Promise<void>;
  update(ids: Float64Array, features: Float32Array): Promise<void>;
  train(features: Float32Array | undefined): Promise<void>;
  remove(ids: Float64Array): Promise<number>;
  search(
    ...args: readonly [
      queries: Float32Array,
      k: number,
      exact: boolean,
      effort: number,
      filterMode: number,
      filterIds: Float64Array | Uint8Array | Uint32Array | undefined,
      firstId: number | undefined,
      stop: NativeStop | undefined,
    ]
  ): Promise<Neighbours>;
  ids(): Promise<Float64Array>;
  features(ids: Float64Array): Promise<Float32Array>;
  compact(): Promise<void>;
  save(path: string): Promise<void>;
  facts(): Promise<IndexFacts>;
  describe(): NativeSpec;
  close(): void;
}

/** The flag of a search: what was fired stays so. */
interface NativeStop {
  fire(): void;
}

/** Every number a kind may need; a kind reads its own. */
interface NativeSpec {
  readonly kind: IndexKind;
  readonly dimension: number;
  readonly storage: FeatureStorage;
  readonly m: number;
  readonly efConstruction: number;
  readonly efSearch: number;
  readonly lists: number;
  readonly probes: number;
  /** 0: no product code. */
  readonly segments: number;
  readonly bits: number;
}

interface Addon {
  readonly Index: new (...args: readonly unknown[]) => NativeIndex;
  readonly Stop: new () => NativeStop;
  load(path: string, mapped: boolean): Promise<NativeIndex>;
  setThreads(threads: number, pinned: boolean): void;
  kernels(): string[];
  useKernel(name: string): string;
  innerProduct(x: Float32Array, y: KernelRow): number;
  squaredDistance(x: Float32Array, y: Float32Array): number;
}

let loaded: Addon | undefined;

/** @throws {BindingMissingError} the addon is not built, or not for this machine */
function addon(): Addon {
  try {
    loaded ??= loadAddon("faiss") as Addon;
    return loaded;
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new BindingMissingError(
      addonPath("faiss"),
      cause.split("\n")[0] ?? "",
      { cause: error },
    );
  }
}

/** Whether the addon can be loaded; the reason where it cannot. */
export function faissMissing(): BindingMissingError | undefined {
  try {
    addon();
    return undefined;
  } catch (error) {
    if (error instanceof BindingMissingError) return error;
    throw error;
  }
}

/** What crosses from C++ is a code and a message; the class and the stack are made here. */
function failureOf(error: unknown, operation: string, path?: string): unknown {
  if (error instanceof ReidError || !(error instanceof Error)) return error;
  const code = (error as { code?: unknown }).code;
  switch (code) {
    case "CLOSED":
      return new ClosedError("index");
    case "CANCELLED":
      return new SearchCancelledError();
    case "SNAPSHOT_CORRUPT":
      return new SnapshotCorruptError(path ?? "", error.message);
    case "SHAPE":
      return new ShapeError(operation, "valid", error.message);
    case "INDEX_FAILED":
    case "IO":
    case "FAILED_PRECONDITION":
      return new IndexFailedError(operation, error.message);
    case undefined:
      return error;
  }
  return error;
}

/** Calls a function of the addon that answers at once. */
function called<Result>(
  operation: string,
  call: (native: Addon) => Result,
): Result {
  const native = addon();
  try {
    return call(native);
  } catch (error) {
    throw failureOf(error, operation);
  }
}

/**
 * Sets the threads that indexes are searched and built on, one pool for each thread of Node that uses the addon.
 *
 * Holds for pools that start from now on: call it before the first index is made. Does nothing without the addon.
 *
 * @param threads  0: as many as the machine has
 * @param pinned   thread i runs on processor i only
 * @throws {ShapeError} threads is no whole number from 0 to 1024
 */
export function setIndexThreads(threads: number, pinned: boolean): void {
  if (faissMissing() !== undefined) return;
  called("threads", (native) => {
    native.setThreads(threads, pinned);
  });
}

/** The clones of the distance kernel that this processor can run, slowest first; "faiss" is the library's own. */
export function distanceKernels(): readonly string[] {
  return addon().kernels();
}

/**
 * Makes one clone the one in use, in the whole process, for tests and benches.
 *
 * @returns the one before
 * @throws {ShapeError} this processor has no such clone
 */
export function useDistanceKernel(name: string): string {
  return called("kernel", (native) => native.useKernel(name));
}

/** A row as the kernels read it: float32, IEEE binary16, or whole numbers. */
export type KernelRow = Float32Array | Uint16Array | Uint8Array;

/** Inner product of a float32 [D] and a row [D] by the clone in use, for tests of the clones. */
export function kernelInnerProduct(x: Float32Array, y: KernelRow): number {
  return called("inner product", (native) => native.innerProduct(x, y));
}

/** Squared L2 distance of two float32 [D] by the clone in use, for tests of the clones. */
export function kernelSquaredDistance(
  x: Float32Array,
  y: Float32Array,
): number {
  return called("squared distance", (native) => native.squaredDistance(x, y));
}

/** What the addon says of an index as a spec, by kind. */
const specs: Readonly<Record<IndexKind, (native: NativeSpec) => IndexSpec>> = {
  flat: (native) => ({ kind: "flat", ...storageOf(native) }),
  hnsw: ({ m, efConstruction, efSearch, ...native }) => ({
    kind: "hnsw",
    m,
    efConstruction,
    efSearch,
    ...storageOf(native),
  }),
  ivf: ({ lists, probes, segments, bits, ...native }) => ({
    kind: "ivf",
    lists,
    probes,
    ...(segments === 0
      ? {}
      : { pq: { segments, bits: bits as ProductCode["bits"] } }),
    ...storageOf(native),
  }),
};

function storageOf({ storage }: Pick<NativeSpec, "storage">): {
  readonly storage?: FeatureStorage;
} {
  return storage === "f32" ? {} : { storage };
}

const filterModes: Readonly<Record<IdFilter["mode"], number>> = {
  only: 1,
  except: 2,
};

/** A FAISS index behind the addon: calls run on the addon's threads, searches beside one another, writes alone. */
export class FaissIndex implements VectorIndex {
  readonly spec: IndexSpec;
  readonly dimension: number;
  readonly #native: NativeIndex;
  readonly #underWay = new Set<Promise<unknown>>();
  /** The last one, however it ends: the addon makes one at a time. */
  #compacting: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(native: NativeIndex) {
    const described = native.describe();
    this.#native = native;
    this.dimension = described.dimension;
    this.spec = specs[described.kind](described);
  }

  /**
   * An empty index.
   *
   * @param dimension  D, 1 to 4096
   * @throws {BindingMissingError} the addon is not built
   */
  static create(spec: IndexSpec, dimension: number): FaissIndex {
    const { m, efConstruction, efSearch } =
      spec.kind === "hnsw" ? spec : hnswDefaults;
    const { lists, probes, pq } = spec.kind === "ivf" ? spec : ivfDefaults;
    const { Index } = addon();
    try {
      return new FaissIndex(
        new Index(
          spec.kind,
          dimension,
          spec.storage ?? "f32",
          m,
          efConstruction,
          efSearch,
          lists,
          probes,
          pq?.segments ?? 0,
          pq?.bits ?? 8,
        ),
      );
    } catch (error) {
      throw failureOf(error, "create");
    }
  }

  /**
   * Reads what `save` wrote.
   *
   * The file's own checksum is compared before anything of it is believed.
   *
   * @param options.mmap  the lists of an ivf index stay in the file, which must not change: the index is read-only
   * @throws {SnapshotCorruptError} the file is not what was written
   * @throws {ShapeError} mmap of another kind, or of an index that is not trained
   * @throws {BindingMissingError} the addon is not built
   */
  static async load(
    path: string,
    { mmap = false }: { readonly mmap?: boolean } = {},
  ): Promise<FaissIndex> {
    const { load } = addon();
    try {
      return new FaissIndex(await load(path, mmap));
    } catch (error) {
      throw failureOf(error, "load", path);
    }
  }

  add(ids: Float64Array, features: Float32Array): Promise<void> {
    return this.#call("add", (native) => native.add(ids, features));
  }

  update(ids: Float64Array, features: Float32Array): Promise<void> {
    return this.#call("update", (native) => native.update(ids, features));
  }

  train(features?: Float32Array): Promise<void> {
    return this.#call("train", (native) => native.train(features));
  }

  remove(ids: Float64Array): Promise<number> {
    return this.#call("remove", (native) => native.remove(ids));
  }

  async search(
    queries: Float32Array,
    options: IndexSearchOptions,
  ): Promise<Neighbours> {
    const { k, mode = "index", filter, effort = 0, signal } = options;
    if (signal?.aborted) throw new SearchCancelledError();
    const flag = signal === undefined ? undefined : new (addon().Stop)();
    const stop = (): void => {
      flag?.fire();
    };
    signal?.addEventListener("abort", stop);
    try {
      return await this.#call("search", (native) =>
        native.search(
          queries,
          k,
          mode === "exact",
          effort,
          filter === undefined ? 0 : filterModes[filter.mode],
          filter && ("ids" in filter ? filter.ids : filter.bitmap),
          filter && ("bitmap" in filter ? filter.firstId : undefined),
          flag,
        ),
      );
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  ids(): Promise<Float64Array> {
    return this.#call("ids", (native) => native.ids());
  }

  features(ids: Float64Array): Promise<Float32Array> {
    return this.#call("features", (native) => native.features(ids));
  }

  compact(): Promise<void> {
    const before = this.#compacting;
    const compacting = this.#call("compact", async (native) => {
      await before;
      return native.compact();
    });
    this.#compacting = compacting.catch(() => undefined);
    return compacting;
  }

  save(path: string): Promise<void> {
    return this.#call("save", (native) => native.save(path));
  }

  facts(): Promise<IndexFacts> {
    return this.#call("facts", (native) => native.facts());
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled([...this.#underWay]);
    this.#native.close();
  }

  async #call<Result>(
    operation: string,
    call: (native: NativeIndex) => Promise<Result>,
  ): Promise<Result> {
    if (this.#closed) throw new ClosedError("index");
    const running = (async () => call(this.#native))();
    this.#underWay.add(running);
    try {
      return await running;
    } catch (error) {
      throw failureOf(error, operation);
    } finally {
      this.#underWay.delete(running);
    }
  }
}
