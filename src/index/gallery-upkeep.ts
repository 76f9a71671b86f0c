import type { GalleryContext } from "./gallery-context.js";
import type { GalleryEnding } from "./gallery-ending.js";
import type { GalleryParts } from "./gallery-loading.js";
import { buildBeside, catchUp } from "./gallery-rebuild.js";
import type { RebuildOptions } from "./gallery-types.js";
import type { GalleryWrites } from "./gallery-writes.js";
import { hnswDefaults, type IndexSpec } from "./index-kinds.js";
import type { VectorIndex } from "./vector-index.js";

const measureAfterMs = 100;

/** What the upkeep of an index takes. */
export interface UpkeepParts extends GalleryParts {
  readonly context: GalleryContext;
  readonly writes: GalleryWrites;
  readonly ending: GalleryEnding;
}

/** The upkeep of a gallery's index: how large it is, what it should be, and how it is built anew as that. */
export class IndexUpkeep {
  readonly #parts: UpkeepParts;
  #sizeBytes: number;
  #measuring: NodeJS.Timeout | undefined;
  #rebuilds = 0;
  /** Said once: what comes of it is the listener's. */
  #isOutgrown = false;

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
    this.#sizeBytes = parts.indexBytes;
  }

  /** Bytes of the index and its tail in memory, as last measured. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Whether another index is being built beside the living one. */
  get isRebuilding(): boolean {
    return this.#rebuilds > 0;
  }

  /** What the index is to be rebuilt to; undefined: it is as it should be. */
  get wanted(): IndexSpec | undefined {
    const { rows, writes, context } = this.#parts;
    const { nextIndex, autoIndex, index } = writes.record;
    const isOutgrown =
      autoIndex === true &&
      index.kind === "flat" &&
      rows.size >= context.flatBelow;
    return nextIndex ?? (isOutgrown ? hnswDefaults : undefined);
  }

  /** To be told of each transaction. */
  afterCommit(): void {
    const { writes, context } = this.#parts;
    this.#measure();
    if (!this.#isOutgrown && this.wanted !== undefined) {
      this.#isOutgrown = true;
      context.onOutgrown(writes.record.name);
    }
  }

  /** As `Gallery.rebuild`. */
  async rebuild(options: RebuildOptions): Promise<void> {
    const { writes, snapshots, context } = this.#parts;
    const spec = this.wanted ?? writes.record.index;
    const fresh = context.factory(spec, writes.record.dimension);
    this.#rebuilds++;
    try {
      await buildBeside(fresh, this.#source, {
        ...options,
        whileStill: (look) => writes.read(look),
      });
      await snapshots.inTurn(() =>
        writes.alone(() => this.#adopt(fresh, spec, options.signal)),
      );
    } catch (error) {
      await fresh.close();
      throw error;
    } finally {
      this.#rebuilds--;
    }
  }

  /** Puts a new index in place while no write is under way. */
  async #adopt(
    fresh: VectorIndex,
    spec: IndexSpec,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { index, writes, snapshots, ending, context } = this.#parts;
    const { tables, store } = context;
    ending.assertOpen();
    // Few by now: searches go on, and writes wait for them.
    await catchUp(fresh, this.#source);
    signal?.throwIfAborted();
    const { nextIndex: _, ...rest } = writes.record;
    const record = { ...rest, index: spec };
    await store.write((writer) => {
      writer.put(tables.galleries, record.name, record);
    });
    writes.record = record;
    await writes.exclusive(() => index.replace(fresh));
    this.#sizeBytes = (await index.facts()).sizeBytes;
    // They are of the old index, and one of the same sequence would be taken for the new one's.
    await snapshots.remove();
  }

  get #source() {
    const { rows, writes, context } = this.#parts;
    return { rows, tables: context.tables, record: writes.record };
  }

  /** Behind the writes, which do not wait for what only `describe` says, and not after each of hundreds a second. */
  #measure(): void {
    this.#measuring ??= setTimeout(() => {
      this.#measuring = undefined;
      this.#parts.index.facts().then(
        ({ sizeBytes }) => {
          this.#sizeBytes = sizeBytes;
        },
        // Closed meanwhile.
        () => undefined,
      );
    }, measureAfterMs).unref();
  }
}
