import { ClosedError, ReidError, ShapeError } from "#core/errors";
import { addonPath, loadAddon } from "#core/native-addon";

import {
  BindingMissingError,
  IndexFailedError,
  SearchCancelledError,
  SnapshotCorruptError,
} from "./errors.js";
import { hnswDefaults, type IndexSpec } from "./index-kinds.js";
import type {
  IdFilter,
  IndexFacts,
  IndexSearchOptions,
  Neighbours,
  VectorIndex,
} from "./vector-index.js";

interface NativeIndex {
  add(ids: Float64Array, features: Float32Array): Promise<void>;
  remove(ids: Float64Array): Promise<number>;
  search(
    ...args: readonly [
      queries: Float32Array,
      k: number,
      exact: boolean,
      effort: number,
      filterMode: number,
      filterIds: Float64Array | Uint8Array | Uint32Array | undefined,
      firstId: number,
      stop: object | undefined,
    ]
  ): Promise<Neighbours>;
  ids(): Promise<Float64Array>;
  features(ids: Float64Array): Promise<Float32Array>;
  compact(): Promise<void>;
  save(path: string): Promise<void>;
  facts(): Promise<IndexFacts>;
  describe(): {
    kind: string;
    dimension: number;
    m: number;
    efConstruction: number;
    efSearch: number;
  };
  close(): void;
}

interface Addon {
  readonly Index: new (...args: readonly unknown[]) => NativeIndex;
  load(path: string): Promise<object>;
  createStop(): object;
  stop(flag: object): void;
  kernels(): string[];
  useKernel(name: string): string;
  innerProduct(x: Float32Array, y: Float32Array): number;
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

/** The clones of the distance kernel that this processor can run, slowest first; "faiss" is the library's own. */
export function distanceKernels(): readonly string[] {
  return addon().kernels();
}

/** Makes one clone the one in use, in the whole process, for tests and benches. @returns the one before */
export function useDistanceKernel(name: string): string {
  return addon().useKernel(name);
}

/** Inner product of two float32 [D] by the clone in use, for tests of the clones. */
export function kernelInnerProduct(x: Float32Array, y: Float32Array): number {
  return addon().innerProduct(x, y);
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
  #closed = false;

  private constructor(native: NativeIndex) {
    const { kind, dimension, ...parameters } = native.describe();
    this.#native = native;
    this.dimension = dimension;
    this.spec =
      kind === "hnsw" ? { kind: "hnsw", ...parameters } : { kind: "flat" };
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
    const { Index } = addon();
    try {
      return new FaissIndex(
        new Index(spec.kind, dimension, m, efConstruction, efSearch),
      );
    } catch (error) {
      throw failureOf(error, "create");
    }
  }

  /**
   * Reads what `save` wrote.
   *
   * The header, sizes and links are checked; inside, FAISS trusts its own counts, so a file from
   * outside is compared with its checksum first (`loadSnapshot` does).
   *
   * @throws {SnapshotCorruptError} the file is not what was written
   * @throws {BindingMissingError} the addon is not built
   */
  static async load(path: string): Promise<FaissIndex> {
    const { load, Index } = addon();
    try {
      return new FaissIndex(new Index(await load(path)));
    } catch (error) {
      throw failureOf(error, "load", path);
    }
  }

  add(ids: Float64Array, features: Float32Array): Promise<void> {
    return this.#call("add", (native) => native.add(ids, features));
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
    const flag = signal === undefined ? undefined : addon().createStop();
    const stop = (): void => {
      if (flag !== undefined) addon().stop(flag);
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
          filter !== undefined && "bitmap" in filter ? filter.firstId : 0,
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
    return this.#call("compact", (native) => native.compact());
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
