import { ClosedError, type ReidError } from "#core/errors";

import { GalleryBusyError, GalleryNotFoundError } from "./errors.js";
import type { GalleryContext } from "./gallery-context.js";
import type { GalleryParts } from "./gallery-loading.js";
import { noteLastSequence, removeEntries } from "./gallery-removal.js";
import type { GalleryWrites } from "./gallery-writes.js";

/** What there is of a gallery to be ended. */
export interface EndingParts extends Pick<GalleryParts, "index" | "snapshots"> {
  readonly context: GalleryContext;
  readonly writes: GalleryWrites;
  /** Saves the index where that spares the next start a rebuild. */
  readonly saveIndex: () => Promise<void>;
}

/** The end of a gallery, closed, deleted, or replaced by one that was restored; and what calls are told from then on. */
export class GalleryEnding {
  readonly #parts: EndingParts;
  #ended: Promise<void> | undefined;
  /** Why it takes no more calls, where it was not closed for its own sake. */
  #cause: "deleted" | "replaced" | undefined;

  constructor(parts: EndingParts) {
    this.#parts = parts;
  }

  /** Whether the gallery takes no more calls. */
  get hasBegun(): boolean {
    return this.#ended !== undefined;
  }

  /** Why no more calls are taken; undefined: they are. */
  get refusal(): ReidError | undefined {
    return this.hasBegun ? this.#error() : undefined;
  }

  /** Why what waits is not written any more: behind a restore it would be written over what was restored. */
  get dismissal(): ReidError | undefined {
    return this.#cause === "replaced" ? this.#error() : undefined;
  }

  /** @throws the refusal, where there is one */
  assertOpen(): void {
    if (this.hasBegun) throw this.#error();
  }

  /** Finishes the writes under way, and saves the index; idempotent. */
  close(): Promise<void> {
    this.#ended ??= this.#close();
    return this.#ended;
  }

  /**
   * Closes the gallery and removes it from store and disk.
   *
   * @throws {StoreFullError} or {StoreReadOnlyError}: then it is open and whole as before
   */
  async delete(): Promise<void> {
    this.assertOpen();
    const { writes, snapshots, context } = this.#parts;
    const { store, tables } = context;
    this.#cause = "deleted";
    const removing = (async () => {
      await writes.idle();
      // From here on it is gone for good: what is left of its entries, the next start would remove.
      await store.write((writer) => {
        writer.remove(tables.galleries, writes.record.name);
        noteLastSequence(writer, tables, writes.record);
      });
    })();
    this.#ended = removing.then(() =>
      snapshots.inTurn(() => this.#removeRest()),
    );
    try {
      await this.#ended;
    } catch (error) {
      await removing.catch(() => {
        this.#cause = undefined;
        this.#ended = undefined;
      });
      throw error;
    }
  }

  /**
   * Makes way for another gallery that has its name in the store now, or never got it.
   *
   * @returns when its entries are removed; never rejects
   */
  giveWay(): Promise<void> {
    this.#cause = "replaced";
    this.#ended = this.#parts.snapshots.inTurn(() => this.#removeRest());
    return this.#ended;
  }

  async #close(): Promise<void> {
    const { writes, index, context, saveIndex } = this.#parts;
    await writes.idle();
    try {
      await saveIndex();
    } catch (error) {
      // The index is a cache: without a snapshot the next start takes longer, and nothing is lost.
      context.log.warn(
        "no snapshot at close, the next start rebuilds the index",
        { gallery: writes.record.name, error },
      );
    }
    await writes.exclusive(() => index.close());
  }

  /** Of a gallery whose record is gone. */
  async #removeRest(): Promise<void> {
    const { writes, index, snapshots, context } = this.#parts;
    const { store, tables, log } = context;
    const { name, number } = writes.record;
    await writes.exclusive(() => index.close());
    try {
      await snapshots.remove();
      await removeEntries(store, tables, number);
    } catch (error) {
      log.warn("what is left of a deleted gallery stays until the next start", {
        gallery: name,
        error,
      });
    }
  }

  #error(): ReidError {
    const { name } = this.#parts.writes.record;
    switch (this.#cause) {
      case "deleted":
        return new GalleryNotFoundError(name);
      case "replaced":
        return new GalleryBusyError(name, "being restored");
      case undefined:
        return new ClosedError(`gallery "${name}"`);
    }
  }
}
