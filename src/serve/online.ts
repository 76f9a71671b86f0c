import type { IsForgottenRow } from "./online-forgetting.js";
import { MemoryNotFoundError } from "./online-errors.js";
import { OnlineMemory } from "./online-memory.js";
import type { MemoryOptions } from "./online-memory-types.js";
import type { SeenCrop } from "./online-rows.js";
import type { ModelRegistry, ModelVersion } from "./registry.js";

/** What online mode needs. */
export interface OnlineOptions extends Omit<
  MemoryOptions,
  "model" | "dimension"
> {
  readonly registry: ModelRegistry;
}

/** Online mode: one hybrid memory for each model name, fed with the crops that its active version embeds. */
export class OnlineMode {
  readonly #memories: ReadonlyMap<string, OnlineMemory>;
  readonly #registry: ModelRegistry;

  private constructor(
    memories: ReadonlyMap<string, OnlineMemory>,
    registry: ModelRegistry,
  ) {
    this.#memories = memories;
    this.#registry = registry;
  }

  /** Opens the memory of every model that has an active version. */
  static async open(options: OnlineOptions): Promise<OnlineMode> {
    const { registry, ...rest } = options;
    const memories = new Map<string, OnlineMemory>();
    for (const name of registry.names()) {
      const active = registry.activeVersion(name);
      if (active === undefined) continue;
      const { dimension } = registry.resolve(active);
      const memory = await OnlineMemory.open({
        ...rest,
        model: active,
        dimension,
      });
      memories.set(name, memory);
    }
    return new OnlineMode(memories, registry);
  }

  /** Learns from crops just embedded; returns at once and never throws. */
  observe(model: ModelVersion, crops: readonly SeenCrop[]): void {
    this.#memories.get(model.name)?.observe(model, crops);
  }

  /**
   * The memory of a model name; default the default model's.
   *
   * @throws {MemoryNotFoundError}
   */
  get(name?: string): OnlineMemory {
    const wanted =
      name === undefined || name === "" ? this.#registry.defaultModel : name;
    const memory = this.#memories.get(wanted);
    if (memory === undefined) throw new MemoryNotFoundError(wanted);
    return memory;
  }

  /** All memories, by model name. */
  list(): readonly OnlineMemory[] {
    return [...this.#memories.values()];
  }

  /** Forgets rows of every memory. @returns how many there were @throws {StoreFullError} @throws {StoreReadOnlyError} */
  async forget(isForgotten: IsForgottenRow): Promise<number> {
    let count = 0;
    for (const memory of this.list()) count += await memory.forget(isForgotten);
    return count;
  }

  /** Writes what is left of every memory; idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.list().map((memory) => memory.close()));
  }
}
