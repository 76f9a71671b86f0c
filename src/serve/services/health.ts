import type { Server } from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { HealthImplementation, protoPath } from "grpc-health-check";
import type { InferencePool } from "../inference-pool.js";
import type { ServiceContext } from "./context.js";

/** How often the statuses are looked at. */
const PERIOD_MS = 1000;

const NOT_SERVING = "NOT_SERVING";

/** `grpc.health.v1`, for reflection. */
export const healthDefinition: PackageDefinition = loadSync(protoPath, {
  enums: String,
});

/**
 * `grpc.health.v1.Health`: what of the server serves, by service.
 *
 * `liveness`: the process answers. `""`: Embed and Search serve. A full disk takes only GalleryService away.
 */
export class Health {
  readonly #health: HealthImplementation;
  readonly #context: ServiceContext;
  readonly #pool: InferencePool;
  readonly #timer: NodeJS.Timeout;
  #isEnding = false;
  #isLooking = false;

  constructor(context: ServiceContext, pool: InferencePool, server: Server) {
    this.#context = context;
    this.#pool = pool;
    this.#health = new HealthImplementation();
    this.#health.addToServer(server);
    this.#timer = setInterval(() => {
      if (!this.#isLooking) void this.check();
    }, PERIOD_MS);
    this.#timer.unref();
  }

  /** Looks at everything once. */
  async check(): Promise<void> {
    const { registry, galleries, store, online, log } = this.#context;
    this.#isLooking = true;
    try {
      await store.probe();
      const disk = await store.status();
      const answer = await galleries.answers();
      if (this.#isEnding) return;
      const embeds =
        registry.activeVersion() !== undefined &&
        this.#pool
          .states()
          .some((state) => state === "idle" || state === "busy");
      const searches =
        answer &&
        galleries
          .known()
          .every((gallery) => gallery.describe().state !== "loading");
      this.#set("liveness", true);
      this.#set("", embeds && searches);
      this.#set("reid.v1.EmbedService", embeds);
      this.#set("reid.v1.SearchService", searches);
      this.#set("reid.v1.GalleryService", searches && disk.writable);
      this.#set("reid.v1.MemoryService", online !== undefined);
    } catch (error) {
      log.warn("health could not be checked", { error });
    } finally {
      this.#isLooking = false;
    }
  }

  /** Tells everybody that the server ends. */
  end(): void {
    this.#isEnding = true;
    clearInterval(this.#timer);
    for (const name of [
      "",
      "EmbedService",
      "SearchService",
      "GalleryService",
      "MemoryService",
    ])
      this.#health.setStatus(name === "" ? "" : `reid.v1.${name}`, NOT_SERVING);
  }

  #set(name: string, isServing: boolean): void {
    this.#health.setStatus(name, isServing ? "SERVING" : NOT_SERVING);
  }
}
