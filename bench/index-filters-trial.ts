// A gallery searched under filters that keep ever fewer entries: through the index as the planner decides, and
// by comparing with every survivor.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#core/clock";
import { silentLog } from "#core/log";
import { Store } from "#core/store";
import type { Gallery } from "#index/gallery";
import { GalleryStore } from "#index/gallery-store";
import type { SearchOutcome } from "#index/gallery-types";
import { hnswDefaults } from "#index/index-kinds";

import { readRows, recallOf } from "./index-data.js";
import { median } from "./report.js";
import { trialInput, trialResult } from "./trial.js";

/** What is searched, and the shares of entries that the filters keep. */
export interface FiltersInput {
  readonly rows: string;
  readonly queries: string;
  readonly dimension: number;
  readonly shares: readonly number[];
}

/** Under one filter; times in ms. */
export interface FilterTrial {
  readonly share: number;
  readonly recall: number;
  readonly indexMs: number;
  readonly exactMs: number;
  /** Share of the searches that the planner made exact. */
  readonly exactShare: number;
}

const NEAREST = 10;
const ENTRIES_OF_CALL = 1024;

const { monotonic } = systemClock;
const input = trialInput<FiltersInput>();
const { dimension, shares } = input;
const rows = await readRows(input.rows);
const queries = await readRows(input.queries);
const count = rows.length / dimension;
const folder = await mkdtemp(join(tmpdir(), "reid-bench-"));
const store = await Store.open(folder);
const galleries = await GalleryStore.open(store, {
  clock: systemClock,
  log: silentLog,
});
try {
  const gallery = await galleries.create({
    name: "door",
    model: { name: "external", version: 1 },
    dimension,
    index: hnswDefaults,
  });
  await fill(gallery);
  await gallery.indexed();
  const trials: FilterTrial[] = [];
  for (const share of shares) trials.push(await measure(gallery, share));
  trialResult(trials);
} finally {
  await galleries.close();
  await store.close();
  await rm(folder, { recursive: true, force: true });
}

/** Entry i is kept by a share where i · share passes a whole number: spread over all identities. */
function isKept(i: number, share: number): boolean {
  return Math.floor((i + 1) * share) > Math.floor(i * share);
}

async function fill(gallery: Gallery): Promise<void> {
  for (let first = 0; first < count; first += ENTRIES_OF_CALL) {
    const size = Math.min(ENTRIES_OF_CALL, count - first);
    await gallery.enroll(
      Array.from({ length: size }, (_, n) => ({
        entryId: String(first + n),
        feature: rows.slice(
          (first + n) * dimension,
          (first + n + 1) * dimension,
        ),
        attributes: Object.fromEntries(
          shares.map((share, s) => [
            `s${s}`,
            isKept(first + n, share) ? "in" : "out",
          ]),
        ),
      })),
    );
  }
}

function idsOf({ results: [{ hits }] }: SearchOutcome): number[] {
  return Array.from({ length: NEAREST }, (_, i) =>
    Number(hits[i]?.entry.entryId ?? -1),
  );
}

async function measure(gallery: Gallery, share: number): Promise<FilterTrial> {
  const key = `s${shares.indexOf(share)}`;
  const filter = { attributes: [{ key, anyOf: ["in"] }] };
  const times: Record<"index" | "exact", number[]> = { index: [], exact: [] };
  const found: Record<"index" | "exact", number[]> = { index: [], exact: [] };
  let exact = 0;
  for (let start = 0; start < queries.length; start += dimension)
    for (const mode of ["index", "exact"] as const) {
      const query = queries.slice(start, start + dimension);
      const began = monotonic();
      const outcome = await gallery.search({
        queries: query,
        k: NEAREST,
        mode,
        filter,
      });
      times[mode].push(monotonic() - began);
      found[mode].push(...idsOf(outcome));
      if (mode === "index" && outcome.results[0].exact) exact++;
    }
  return {
    share,
    recall: recallOf(found.index, found.exact, NEAREST),
    indexMs: median(times.index),
    exactMs: median(times.exact),
    exactShare: exact / (queries.length / dimension),
  };
}
