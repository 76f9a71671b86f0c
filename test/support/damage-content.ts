import { systemClock } from "#core/clock";
import { randomStream } from "#core/random";
import { Store } from "#core/store";
import { GalleryStore } from "#index/gallery-store";
import { Tombstones } from "#index/tombstones";
import { MemoryStore } from "#serve/online-store";
import { MemoryRows } from "#serve/online-rows";
import { StoredOperations } from "#serve/operation-table";

import { featureNamed, unitFeatures } from "./galleries.js";

/** Length of every feature of the folder that is damaged. */
const dimension = 24;

const graph = { kind: "hnsw", m: 8, efConstruction: 40, efSearch: 64 } as const;

/** A gallery of each kind of index, with crops and without. */
const galleries = [
  { name: "flat", index: { kind: "flat" }, cropRetention: "keep" },
  { name: "graph", index: graph, cropRetention: "none" },
  { name: "half", index: { ...graph, storage: "f16" }, cropRetention: "keep" },
  { name: "lists", index: { kind: "ivf", lists: 1, probes: 1 } },
] as const;

const namesOf = (gallery: string) =>
  Array.from({ length: 48 }, (_, i) => `${gallery}-${i}`);

/** A data folder that is open, and what its galleries said when they were opened. */
export interface OpenFolder {
  readonly store: Store;
  readonly galleries: GalleryStore;
  readonly lines: string[];
  close(): Promise<void>;
}

/** What of a folder can be seen from outside. */
export interface Content {
  /** Gallery, entry id and sequence of every entry. */
  readonly ids: readonly (readonly [string, string, number])[];
  /** Everything else: fields, features, crops, hits, memory, operations, answers to request ids. */
  readonly values: readonly unknown[];
  /** What `check` says. */
  readonly problems: readonly string[];
}

/** Opens a data folder as its next owner would. */
export async function openFolder(folder: string): Promise<OpenFolder> {
  const store = await Store.open(folder, { minFreeBytes: 0 });
  const lines: string[] = [];
  const say = (message: string): void => void lines.push(message);
  let open: GalleryStore;
  try {
    open = await GalleryStore.open(store, {
      clock: systemClock,
      log: { info: say, warn: say },
    });
  } catch (error) {
    await store.close();
    throw error;
  }
  return {
    ...{ store, lines, galleries: open },
    close: async () => {
      try {
        await open.close();
      } finally {
        await store.close();
      }
    },
  };
}

/** Fills an open folder with something of everything that a server keeps. */
export async function fill({ store, galleries: open }: OpenFolder) {
  for (const spec of galleries) {
    const model = { name: "external", version: 1 };
    const gallery = await open.create({ ...spec, model, dimension });
    for (const [i, entryId] of namesOf(spec.name).entries())
      await gallery.enroll([
        {
          entryId,
          identity: `p${i % 7}`,
          cameraId: `c${i % 3}`,
          attributes: { coat: "red", hat: String(i) },
          feature: featureNamed(entryId, dimension),
          // From a few bytes to several pages.
          crop: Buffer.from(`crop of ${entryId} `.repeat(1 + 20 * (i % 40))),
        },
      ]);
    await gallery.deleteEntries({ entryIds: [`${spec.name}-3`] });
    await gallery.updateEntries(
      { entryIds: [`${spec.name}-4`] },
      { cameraId: "c9" },
    );
  }
  await open.forget("p6");
  // No snapshot is taken before.
  await open.compact();
  await open.requests.once(
    { requestId: "r-1", request: Buffer.from("enroll") },
    async (keep) => {
      const response = Buffer.from("its response");
      await open.requests.write((writer) => keep(writer, response));
      return response;
    },
  );
  const rows = new MemoryRows({ maxRows: 50, momentum: 0.2 });
  for (let i = 0; i < 12; i++)
    rows.observe({
      ...{ cropId: `crop-${i}`, cameraId: `c${i % 2}`, trackId: `t${i}` },
      ...{ capturedAtMs: 1_700_000_000_000 + i, cropHash: `${i}`.repeat(32) },
      feature: featureNamed(`row ${i}`, dimension),
    });
  const nextRow = rows.nextRow;
  await new MemoryStore(store, "door").writeRows(rows, {
    ...{ version: 1, dimension, nextRow, newRowCount: 12 },
  });
  await new StoredOperations(store).put([
    {
      ...({
        operationId: "o-1",
        kind: "snapshot",
        state: "succeeded",
      } as const),
      ...{ subject: "gallery/flat", doneCount: 1, totalCount: 1 },
      ...{ createdAtMs: 1, progressedAtMs: 2, finishedAtMs: 3 },
      ...{ error: undefined, detail: undefined },
    },
  ]);
}

/**
 * Reads all that an open folder holds, the way its readers do.
 *
 * @throws what a read throws
 */
export async function contentOf({
  store,
  galleries: open,
}: OpenFolder): Promise<Content> {
  const ids: [string, string, number][] = [];
  const values: unknown[] = [];
  const problems: string[] = [];
  const queries = unitFeatures(randomStream(3, "damage"), 3, dimension);
  for (const gallery of open.known()) {
    const { name } = gallery;
    const { indexBytes: _, ...described } = gallery.describe();
    values.push(described);
    for (const view of ["full", "feature", "crop"] as const) {
      const { entries } = await gallery.listEntries({ pageSize: 1e6, view });
      values.push(entries);
      if (view === "full")
        for (const { entryId, sequence } of entries)
          ids.push([name, entryId, sequence]);
    }
    for (const mode of ["exact", "index"] as const)
      values.push(await gallery.search({ queries, k: 5, mode }));
    problems.push(...(await gallery.check()).problems);
  }
  values.push(new MemoryStore(store, "door").read());
  values.push(await new StoredOperations(store).read());
  values.push([...store.table("requests", "data").range()]);
  values.push(new Tombstones(store).all());
  return { ids, values, problems };
}
