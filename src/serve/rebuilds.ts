import { ClosedError, ReidError } from "#core/errors";
import type { Log } from "#core/log";
import { GalleryBusyError } from "#index/errors";
import type { Galleries } from "#index/galleries";
import type {
  Operation,
  OperationProgress,
  OperationWork,
} from "./operation-types.js";
import { OperationInterruptedError, type OperationLog } from "./operations.js";

/** The galleries that rebuilds work on; more than they have is not asked of them. */
export type RebuiltGalleries = Pick<Galleries, "get" | "known">;

const prefix = "gallery/";

/** Indexes that are rebuilt beside the living ones, as operations; one at a time for a gallery. */
export class Rebuilds {
  readonly #operations: OperationLog;
  readonly #log: Log;
  readonly #starting = new Map<string, Promise<Operation>>();
  #galleries: RebuiltGalleries | undefined;

  constructor(operations: OperationLog, log: Log) {
    this.#operations = operations;
    this.#log = log;
  }

  /** Goes on with a rebuild that the end of the server cut off. */
  resumer(
    galleries: RebuiltGalleries,
  ): (operation: Operation) => OperationWork {
    this.#galleries = galleries;
    return ({ subject }) => this.#work(galleries, subject.slice(prefix.length));
  }

  /** Starts what galleries want and nobody is doing: an update whose operation a crash cut off. */
  async startWanted(): Promise<void> {
    for (const { name, wantedIndex } of this.#galleries?.known() ?? [])
      if (wantedIndex !== undefined) await this.start(name);
  }

  /** The work on a gallery that is under way or starts now; before `resumer` nothing starts. */
  async start(name: string): Promise<Operation | undefined> {
    const galleries = this.#galleries;
    if (galleries === undefined) return undefined;
    const subject = `${prefix}${name}`;
    const running = this.#operations.runningOn(subject);
    if (running !== undefined) return running;
    const starting =
      this.#starting.get(name) ??
      this.#operations
        .start("rebuild", subject, this.#work(galleries, name))
        .catch((error: unknown) => this.#startedElsewhere(subject, error))
        .finally(() => this.#starting.delete(name));
    this.#starting.set(name, starting);
    return starting;
  }

  /** Another server was first: its work is the gallery's. */
  async #startedElsewhere(subject: string, error: unknown): Promise<Operation> {
    if (!(error instanceof GalleryBusyError)) throw error;
    await this.#operations.refresh();
    const running = this.#operations.runningOn(subject);
    if (running === undefined) throw error;
    return running;
  }

  /** Starts what a gallery has just come to want; where that fails the next start of the server does. */
  outgrown(name: string): void {
    this.start(name).catch((error: unknown) => {
      this.#log.warn("a gallery has outgrown its index and keeps it for now", {
        gallery: name,
        error,
      });
    });
  }

  #work(galleries: RebuiltGalleries, name: string): OperationWork {
    return async (progress: OperationProgress) => {
      const gallery = await galleries.get(name);
      try {
        await gallery.rebuild(progress);
      } catch (error) {
        const isEnding =
          error instanceof OperationInterruptedError ||
          error instanceof ClosedError;
        // What was given up is undone; what the server's end cut off is gone on with.
        if (!isEnding)
          await gallery.keepIndex().catch((failure: unknown) => {
            if (!(failure instanceof ReidError)) throw failure;
            this.#log.warn("a rebuild that failed will be tried again", {
              gallery: name,
              error: failure,
            });
          });
        throw error;
      }
      return undefined;
    };
  }
}
