import { inTransaction, type Session } from "#core/postgres";

import { GalleryBusyError } from "./errors.js";
import type { RebuildOptions } from "./gallery-types.js";
import type { IndexSpec } from "./index-kinds.js";
import { lockGallery, putRecord } from "./scaled-commit.js";
import type { ScaledContext } from "./scaled-context.js";
import { whileHeld } from "./scaled-gate.js";
import { rowsOfCall } from "./scaled-outbox.js";
import {
  collectionOf,
  milvusColumns,
  milvusRowFrom,
  strayCollections,
  type EntryRow,
  type ScaledRecord,
} from "./scaled-records.js";

/** Which gallery is rebuilt. */
export interface RebuiltGallery {
  readonly number: number;
  readonly name: string;
}

/** A collection that is filled beside the one that is searched. */
interface Building {
  readonly generation: number;
  readonly collection: string;
  readonly spec: IndexSpec;
  readonly dimension: number;
  /** Entries up to here are brought by the rebuild, later ones by the outbox. */
  readonly upTo: number;
  readonly entryCount: number;
}

/** Notes collections that leave Milvus when no search is in them. */
async function noteDropped(
  session: Session,
  number: number,
  names: readonly string[],
): Promise<void> {
  if (names.length > 0)
    await session.query(
      "INSERT INTO dropped_collections (name, gallery) SELECT name, $1 FROM unnest($2::text[]) AS name ON CONFLICT DO NOTHING",
      [number, names],
    );
}

/** Changes a gallery's record under its lock; undefined: it stays as it is. */
async function changeRecord(
  session: Session,
  gallery: RebuiltGallery,
  change: (record: ScaledRecord) => Promise<ScaledRecord | undefined>,
): Promise<ScaledRecord> {
  const record = await lockGallery(session, gallery);
  const changed = await change(record);
  if (changed === undefined) return record;
  return putRecord(session, gallery.number, changed);
}

/** Gives the new collection its generation; that of another rebuild counts no longer. */
function reserve(
  { postgres, deployment }: ScaledContext,
  gallery: RebuiltGallery,
): Promise<ScaledRecord> {
  const { number } = gallery;
  return postgres.transaction((session) =>
    changeRecord(session, gallery, async (record) => {
      // What a server that died has left.
      const strays = strayCollections(deployment, number, record);
      await noteDropped(session, number, strays);
      const { building: _, ...rest } = record;
      const { generation = 0, lastGeneration = generation } = record;
      return { ...rest, lastGeneration: lastGeneration + 1 };
    }),
  );
}

/** Makes the new collection, and has every write come to it too from then on. */
async function begin(
  { postgres, milvus, deployment }: ScaledContext,
  gallery: RebuiltGallery,
  of: {
    readonly generation: number;
    readonly spec: IndexSpec;
    readonly dimension: number;
  },
): Promise<Building> {
  const { number } = gallery;
  const { generation, spec, dimension } = of;
  const collection = collectionOf(deployment, number, generation);
  await milvus.ensure(collection, spec, dimension);
  // Nobody is just bringing writes to the old one only, and nobody will.
  const record = await whileHeld(postgres, number, (session) =>
    inTransaction(session, () =>
      changeRecord(session, gallery, async (now) => {
        if (now.lastGeneration !== generation) throw taken(gallery);
        return { ...now, building: generation };
      }),
    ),
  );
  return {
    ...of,
    collection,
    upTo: record.sequence,
    entryCount: record.entryCount,
  };
}

function taken({ name }: RebuiltGallery): GalleryBusyError {
  return new GalleryBusyError(name, "being rebuilt by another server");
}

/** Brings the entries there were at the beginning, page by page. */
async function fill(
  { postgres, milvus }: ScaledContext,
  { number }: RebuiltGallery,
  { collection, dimension, upTo, entryCount }: Building,
  { signal, report }: RebuildOptions,
): Promise<void> {
  const limit = rowsOfCall(dimension);
  let done = 0;
  report?.(0, entryCount);
  for (let after = 0; ;) {
    signal?.throwIfAborted();
    // A removal that comes between the page and its way to Milvus would leave a vector for good: it waits.
    const page = await whileHeld(postgres, number, async (session) => {
      const rows = await session.query<EntryRow>(
        `SELECT ${milvusColumns} FROM entries
         WHERE gallery = $1 AND sequence > $2 AND sequence <= $3
         ORDER BY sequence LIMIT $4`,
        [number, after, upTo, limit],
      );
      await milvus.upsert(collection, rows.map(milvusRowFrom));
      return rows;
    });
    if (page.length === 0) return;
    after = page[page.length - 1].sequence;
    done += page.length;
    report?.(done, Math.max(done, entryCount));
  }
}

/** Has searches look into the new collection, in one commit. */
async function adopt(
  { postgres, deployment }: ScaledContext,
  gallery: RebuiltGallery,
  { generation, spec }: Building,
  signal: AbortSignal | undefined,
): Promise<ScaledRecord> {
  const { number } = gallery;
  return postgres.transaction((session) =>
    changeRecord(session, gallery, async (record) => {
      if (record.building !== generation) throw taken(gallery);
      signal?.throwIfAborted();
      const old = collectionOf(deployment, number, record.generation);
      await noteDropped(session, number, [old]);
      const { building: _building, nextIndex: _next, ...rest } = record;
      return { ...rest, index: spec, generation };
    }),
  );
}

/** Undoes a rebuild that is given up; the old collection was searched all the while. */
async function giveUp(
  { postgres, deployment }: ScaledContext,
  gallery: RebuiltGallery,
  generation: number,
): Promise<void> {
  await postgres.transaction((session) =>
    changeRecord(session, gallery, async (record) => {
      // Another server has begun anew: what there is now is its own.
      if (record.lastGeneration !== generation) return undefined;
      const { building: _, ...rest } = record;
      const { number } = gallery;
      const strays = strayCollections(deployment, number, record);
      await noteDropped(session, number, strays);
      return rest;
    }),
  );
}

/**
 * Fills a new collection beside the one that is searched, and puts it in its place in one commit.
 *
 * Searches and writes of all servers go on. A crash before the commit leaves the old one, and the wish for the new.
 *
 * @param wanted  the index that it is to have
 * @returns       the gallery's record behind the commit
 * @throws {GalleryBusyError} another server rebuilds it
 * @throws {GalleryNotFoundError} it was deleted
 * @throws {MilvusUnavailableError} @throws {DatabaseUnavailableError} @throws the signal's reason
 */
export async function rebuildCollection(
  context: ScaledContext,
  gallery: RebuiltGallery,
  wanted: (record: ScaledRecord) => IndexSpec,
  options: RebuildOptions,
): Promise<ScaledRecord> {
  const { milvus, collections, log } = context;
  const { signal } = options;
  const reserved = await reserve(context, gallery);
  const { dimension, lastGeneration: generation = 0 } = reserved;
  try {
    const spec = wanted(reserved);
    const building = await begin(context, gallery, {
      ...{ generation, spec, dimension },
    });
    await fill(context, gallery, building, options);
    await milvus.built(building.collection, signal);
    const record = await adopt(context, gallery, building, signal);
    // The old collection goes now, or with the next sweep of any server.
    void collections.sweep().catch((error: unknown) => {
      log.warn("what a rebuild has replaced stays for now", { error });
    });
    return record;
  } catch (error) {
    await giveUp(context, gallery, generation).catch((failure: unknown) => {
      log.warn("what a rebuild has left stays until the next one", {
        gallery: gallery.name,
        error: failure,
      });
    });
    throw error;
  }
}
