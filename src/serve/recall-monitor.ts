import type { Clock } from "#core/clock";
import { ReidError } from "#core/errors";
import type { Telemetry } from "#core/telemetry";
import type { Filter } from "#index/filter";
import type { Galleries, Gallery } from "#index/galleries";
import type { GalleryDescription } from "#index/gallery-types";

/** Hits that are compared. */
const COMPARED = 10;
/** Samples of a gallery that its figure is the mean of. */
const REMEMBERED = 100;
/** Share of the time that samples may take, all galleries together: so small that the p99 of searches has none. */
const TIME_SHARE = 0.002;

/** A query that an index answered approximately. */
export interface ApproximateSearch {
  /** float32 [D], unit; copied. */
  readonly feature: Float32Array;
  readonly filters: readonly (Filter | undefined)[];
  /** Default the gallery's. */
  readonly effort?: number | undefined;
}

/** What was measured of one gallery. */
interface Samples {
  /** The index it was measured of: another one begins anew. */
  readonly index: GalleryDescription["index"];
  /** Of the true nearest, those that were found, [0, 1]; older first. */
  readonly shares: readonly number[];
}

/**
 * Measures how many of the true nearest entries searches find: of a sample, the 10 nearest by index and exactly.
 *
 * One sample at a time, in the background; after one that took t ms none for 499·t ms, so that comparing costs a
 * five-hundredth of the time at most, however large the gallery is. The comparing itself is done by the index's threads.
 */
export class RecallMonitor {
  readonly #clock: Clock;
  readonly #stopObserving: () => void;
  readonly #abort = new AbortController();
  /** What is gone takes its samples along. */
  readonly #samples = new WeakMap<Gallery, Samples>();
  #sampling: Promise<void> | undefined;
  #nextMs = -Infinity;

  /** @param galleries  those that the figure is given of */
  constructor(
    galleries: Pick<Galleries, "known">,
    telemetry: Telemetry,
    clock: Clock,
  ) {
    this.#clock = clock;
    this.#stopObserving = telemetry.observe("reid.index.recall", () =>
      galleries.known().flatMap((gallery) => {
        const { shares = [] } = this.#samples.get(gallery) ?? {};
        const sum = shares.reduce((total, share) => total + share, 0);
        return shares.length === 0
          ? []
          : [
              {
                value: sum / shares.length,
                attributes: { gallery: gallery.name },
              },
            ];
      }),
    );
  }

  /** Looks at a search, or does not; returns at once. */
  offer(gallery: Gallery, search: ApproximateSearch): void {
    if (
      this.#abort.signal.aborted ||
      this.#sampling !== undefined ||
      this.#clock.monotonic() < this.#nextMs
    )
      return;
    const started = this.#clock.monotonic();
    const feature = search.feature.slice();
    this.#sampling = this.#sample(gallery, { ...search, feature }).finally(
      () => {
        const now = this.#clock.monotonic();
        this.#nextMs = now + (now - started) * (1 / TIME_SHARE - 1);
        this.#sampling = undefined;
      },
    );
  }

  /** Stops the sample under way, and takes no more; idempotent. */
  async close(): Promise<void> {
    this.#abort.abort();
    this.#stopObserving();
    await this.#sampling;
  }

  async #sample(gallery: Gallery, search: ApproximateSearch): Promise<void> {
    const ask = async (mode: "index" | "exact") => {
      const { results, sequence } = await gallery.search({
        queries: search.feature,
        k: COMPARED,
        mode,
        ...(search.filters[0] === undefined
          ? {}
          : { filter: search.filters[0] }),
        queryFilters: [search.filters[1]],
        ...(mode === "exact" || search.effort === undefined
          ? {}
          : { effort: search.effort }),
        signal: this.#abort.signal,
      });
      const ids = results[0].hits.map(({ entry }) => entry.entryId);
      return { ids, sequence, exact: results[0].exact };
    };
    try {
      const approximate = await ask("index");
      if (approximate.exact) return;
      const exact = await ask("exact");
      // Written in between: what differs need not be the index's doing.
      if (exact.sequence !== approximate.sequence || exact.ids.length === 0)
        return;
      const found = new Set(approximate.ids);
      const share =
        exact.ids.filter((id) => found.has(id)).length / exact.ids.length;
      const { index } = gallery.describe();
      const before = this.#samples.get(gallery);
      const shares = before?.index === index ? before.shares : [];
      this.#samples.set(gallery, {
        index,
        shares: [...shares.slice(1 - REMEMBERED), share],
      });
    } catch (error) {
      // The gallery was closed or deleted, or the server ends: nobody asked for this.
      if (!(error instanceof ReidError)) throw error;
    }
  }
}
