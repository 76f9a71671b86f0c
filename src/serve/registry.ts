import { join } from "node:path";
import type { Clock } from "#core/clock";
import { ClosedError, ReidError } from "#core/errors";
import type { Log } from "#core/log";
import {
  hasModelsFolder,
  listBundles,
  readBundle,
  type BundleEntry,
  type Manifest,
} from "#core/manifest";
import {
  ModelNotFoundError,
  ModelNotLoadedError,
  NoActiveModelError,
} from "./inference-errors.js";
import type { InferencePool } from "./inference-pool.js";

/** A model as a caller names it: no name is the default model, no version (or 0) the active one. */
export interface ModelReference {
  readonly name?: string | undefined;
  readonly version?: number | undefined;
}

/** One version of one model. */
export interface ModelVersion {
  readonly name: string;
  /** From 1. */
  readonly version: number;
}

/** What a version is doing here. */
export type ModelState = "on-disk" | "loading" | "loaded" | "active" | "failed";

/** What ListModels and GetModel say of a version. */
export interface ModelFacts extends ModelVersion {
  readonly state: ModelState;
  readonly manifest: Manifest;
  readonly folder: string;
  /** Milliseconds since 1970; undefined: not loaded. */
  readonly loadedAtMs: number | undefined;
  /** Undefined: not loaded. */
  readonly device: string | undefined;
  /** Why it failed. */
  readonly error: ReidError | undefined;
}

/** An encoder that can run now. */
export interface LoadedModel extends ModelVersion {
  /** The pool's key, `name/version`. */
  readonly key: string;
  readonly heightPx: number;
  readonly widthPx: number;
  /** D. */
  readonly dimension: number;
  readonly device: string;
}

/** What a registry needs. */
export interface RegistryOptions {
  /** Folder of bundles, NAME/VERSION. */
  readonly folder: string;
  readonly pool: InferencePool;
  readonly defaultModel?: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

interface Known {
  readonly entry: BundleEntry;
  state: Exclude<ModelState, "active">;
  loaded: LoadedModel | undefined;
  loading: Promise<LoadedModel> | undefined;
  loadedAtMs: number | undefined;
  error: ReidError | undefined;
}

/**
 * The models of a folder, and which of their versions run.
 *
 * The newest version of each name that can be loaded is active. Versions published later are seen by
 * `refresh` and can be loaded; they do not become active by themselves. From `close` on every method throws
 * ClosedError.
 */
export class ModelRegistry {
  readonly #options: RegistryOptions;
  readonly #known = new Map<string, Known>();
  /** Active version by name. */
  readonly #active = new Map<string, number>();
  /** Loads and looks at the folder that have not ended. */
  readonly #underWay = new Set<Promise<unknown>>();
  #isClosed = false;

  private constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /**
   * Reads the folder and loads the newest version of every name.
   *
   * A broken bundle is logged and listed as failed, and the version before it is tried. A folder that is missing
   * is logged and has no models yet.
   *
   * @throws {ConfigError} the folder is no folder
   */
  static async open(options: RegistryOptions): Promise<ModelRegistry> {
    const { folder, log } = options;
    if (!(await hasModelsFolder(folder)))
      log.warn("models folder is not there: there are no models yet", {
        models: folder,
      });
    const registry = new ModelRegistry(options);
    await registry.refresh();
    for (const name of registry.names()) await registry.#activateNewest(name);
    return registry;
  }

  /** Names of all models, sorted. */
  names(): readonly string[] {
    this.#checkOpen();
    const names = [...this.#known.values()].map(
      (one) => one.entry.manifest.name,
    );
    return [...new Set(names)].sort();
  }

  /** The model of requests that name none: as configured, else the first by name; empty: there is none. */
  get defaultModel(): string {
    this.#checkOpen();
    return this.#options.defaultModel ?? this.names()[0] ?? "";
  }

  /** The active version of a model; undefined: none. */
  activeVersion(name: string = this.defaultModel): ModelVersion | undefined {
    this.#checkOpen();
    const version = this.#active.get(name);
    return version === undefined ? undefined : { name, version };
  }

  /** All versions, by name, then version falling. */
  list(): readonly ModelFacts[] {
    this.#checkOpen();
    return [...this.#known.values()]
      .map((known) => this.#factsOf(known))
      .sort((a, b) =>
        a.name === b.name ? b.version - a.version : a.name < b.name ? -1 : 1,
      );
  }

  /**
   * One version.
   *
   * @throws {ModelNotFoundError} @throws {NoActiveModelError} no version named and none is active
   */
  describe(reference: ModelReference = {}): ModelFacts {
    return this.#factsOf(this.#find(reference));
  }

  /**
   * An encoder that can run now.
   *
   * @throws {ModelNotFoundError} no such name or version
   * @throws {NoActiveModelError} no version named and none is active
   * @throws {ModelNotLoadedError} that version is not loaded
   */
  resolve(reference: ModelReference = {}): LoadedModel {
    const known = this.#find(reference);
    if (known.loaded === undefined)
      throw new ModelNotLoadedError(showModel(known.entry.manifest));
    return known.loaded;
  }

  /**
   * Loads a version into every worker; returns when it can serve. Loaded already: no work.
   *
   * @throws {ModelNotFoundError} @throws {ManifestError} the bundle is broken
   * @throws {ReidError} the engine refuses it
   */
  async load(model: ModelVersion): Promise<LoadedModel> {
    this.#checkOpen();
    return this.#awaited(this.#loadOnce(model));
  }

  /**
   * Looks at the folder again: versions published meanwhile are listed from then on, those taken away no
   * longer, unless they are loaded.
   */
  async refresh(): Promise<void> {
    this.#checkOpen();
    return this.#awaited(this.#readFolder());
  }

  /** Waits for loads under way; idempotent. The pool is its owner's to close. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#underWay);
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new ClosedError("model registry");
  }

  /** The same work, which `close` waits for. */
  async #awaited<Result>(work: Promise<Result>): Promise<Result> {
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
    }
  }

  async #activateNewest(name: string): Promise<void> {
    const versions = this.list().filter((facts) => facts.name === name);
    for (const { version } of versions) {
      try {
        await this.load({ name, version });
        this.#active.set(name, version);
        return;
      } catch (error) {
        if (!(error instanceof ReidError)) throw error;
        this.#options.log.error("model version could not be loaded", {
          model: name,
          version,
          error,
        });
      }
    }
  }

  async #loadOnce(model: ModelVersion): Promise<LoadedModel> {
    const known =
      this.#known.get(showModel(model)) ?? (await this.#findOnDisk(model));
    if (known.loaded !== undefined) return known.loaded;
    known.loading ??= this.#load(known).finally(() => {
      known.loading = undefined;
    });
    return known.loading;
  }

  async #readFolder(): Promise<void> {
    const { folder, log } = this.#options;
    const { bundles, broken } = await listBundles(folder);
    const present = new Set(bundles.map(({ manifest }) => showModel(manifest)));
    for (const [key, { loaded, loading }] of this.#known)
      if (!present.has(key) && loaded === undefined && loading === undefined)
        this.#known.delete(key);
    for (const entry of bundles) {
      // Version 0 is a run's own bundle: it was not published and has no number to pin.
      const key = showModel(entry.manifest);
      if (entry.manifest.version === 0 || this.#known.has(key)) continue;
      this.#known.set(key, {
        entry,
        state: "on-disk",
        loaded: undefined,
        loading: undefined,
        loadedAtMs: undefined,
        error: undefined,
      });
    }
    for (const { folder: bundle, error } of broken)
      log.warn("bundle left out", { bundle, error });
  }

  #find({ name, version = 0 }: ModelReference): Known {
    const model = name === undefined || name === "" ? this.defaultModel : name;
    if (model === "") throw new NoActiveModelError("");
    const isKnown = this.names().includes(model);
    if (!isKnown) throw new ModelNotFoundError(model);
    const wanted = version === 0 ? this.#active.get(model) : version;
    if (wanted === undefined) throw new NoActiveModelError(model);
    const key = showModel({ name: model, version: wanted });
    const known = this.#known.get(key);
    if (known === undefined) throw new ModelNotFoundError(key);
    return known;
  }

  async #findOnDisk(model: ModelVersion): Promise<Known> {
    await this.#readFolder();
    const known = this.#known.get(showModel(model));
    if (known === undefined) throw new ModelNotFoundError(showModel(model));
    return known;
  }

  async #load(known: Known): Promise<LoadedModel> {
    const { pool, clock, log } = this.#options;
    const { folder, manifest } = known.entry;
    const { name, version, heightPx, widthPx, dimension } = manifest;
    const key = showModel(manifest);
    known.state = "loading";
    known.error = undefined;
    try {
      await readBundle(folder);
      const path = join(folder, "encoder.onnx");
      const source = { key, path, heightPx, widthPx, dimension };
      const device = await pool.load(source);
      known.loaded = { ...source, name, version, device };
      known.loadedAtMs = clock.now();
      known.state = "loaded";
      log.info("model loaded", { model: key, device });
      return known.loaded;
    } catch (error) {
      known.state = "failed";
      known.error = error instanceof ReidError ? error : undefined;
      throw error;
    }
  }

  #factsOf(known: Known): ModelFacts {
    const { manifest, folder } = known.entry;
    const { name, version } = manifest;
    const isActive = this.#active.get(name) === version;
    return {
      name,
      version,
      state: isActive && known.state === "loaded" ? "active" : known.state,
      manifest,
      folder,
      loadedAtMs: known.loadedAtMs,
      device: known.loaded?.device,
      error: known.error,
    };
  }
}

/** `name/version`. */
export function showModel({ name, version }: ModelVersion): string {
  return `${name}/${version}`;
}
