import type { Session, SqlValue } from "#core/postgres";

import { GalleryNotFoundError } from "./errors.js";
import type { AddedEntry, PresentEntry } from "./scaled-draft.js";
import type { ScaledRecord } from "./scaled-records.js";
import { storedAttributes } from "./scaled-text.js";

/** Rows of one INSERT: 13 values each, and PostgreSQL takes 65,535. */
const rowsAtOnce = 1000;

const entryColumns =
  "gallery, sequence, entry_id, identity, camera_id, track_id, captured_at_us, expires_at_us, enrolled_at_us, attributes, feature, crop, crop_hash";
const columnCount = entryColumns.split(",").length;

/**
 * The gallery's record, its row locked until the transaction ends: writes of all servers come one after another.
 *
 * @throws {GalleryNotFoundError} it was deleted
 */
export async function lockGallery(
  session: Session,
  gallery: { readonly number: number; readonly name: string },
): Promise<ScaledRecord> {
  const [row] = await session.query<{ record: ScaledRecord }>(
    "SELECT record FROM galleries WHERE number = $1 FOR UPDATE",
    [gallery.number],
  );
  if (row === undefined) throw new GalleryNotFoundError(gallery.name);
  return row.record;
}

/** Writes the record back. @returns it, as it is now */
export async function putRecord(
  session: Session,
  number: number,
  record: ScaledRecord,
): Promise<ScaledRecord> {
  const written = { ...record, revision: (record.revision ?? 0) + 1 };
  await session.query("UPDATE galleries SET record = $2 WHERE number = $1", [
    number,
    JSON.stringify(written),
  ]);
  return written;
}

/** What is there under some entry ids. */
export async function presentEntries(
  session: Session,
  number: number,
  entryIds: readonly string[],
): Promise<ReadonlyMap<string, PresentEntry>> {
  if (entryIds.length === 0) return new Map();
  const rows = await session.query<{
    entry_id: string;
    sequence: number;
    identity: string;
  }>(
    "SELECT entry_id, sequence, identity FROM entries WHERE gallery = $1 AND entry_id = ANY ($2::text[])",
    [number, entryIds],
  );
  return new Map(
    rows.map(({ entry_id, sequence, identity }) => [
      entry_id,
      { sequence, identity },
    ]),
  );
}

/** Removes entries, and notes in the outbox that their vectors have to go. */
export async function removeRows(
  session: Session,
  number: number,
  sequences: readonly number[],
): Promise<void> {
  if (sequences.length === 0) return;
  await session.query(
    "DELETE FROM entries WHERE gallery = $1 AND sequence = ANY ($2::bigint[])",
    [number, sequences],
  );
  await noteInOutbox(session, number, { sequences, removed: true });
}

/** Adds entries. */
export async function addRows(
  session: Session,
  number: number,
  added: readonly AddedEntry[],
): Promise<void> {
  for (let start = 0; start < added.length; start += rowsAtOnce) {
    const share = added.slice(start, start + rowsAtOnce);
    const places = share.map((_, row) => {
      const from = row * columnCount;
      const own = Array.from(
        { length: columnCount },
        (_unused, i) => `$${from + i + 1}`,
      );
      return `(${own.join(",")})`;
    });
    await session.query(
      `INSERT INTO entries (${entryColumns}) VALUES ${places.join(",")}`,
      share.flatMap((entry) => valuesOf(number, entry)),
    );
  }
}

/** Notes in the outbox that vectors have to come, or where they were removed to go. */
export async function noteInOutbox(
  session: Session,
  number: number,
  {
    sequences,
    removed,
  }: { readonly sequences: readonly number[]; readonly removed: boolean },
): Promise<void> {
  if (sequences.length === 0) return;
  await session.query(
    "INSERT INTO outbox (gallery, sequence, removed) SELECT $1, s, $3 FROM unnest($2::bigint[]) AS s",
    [number, sequences, removed],
  );
}

/** Brings the table of identities to a transaction's changes. @returns how many identities more there are */
export async function countIdentities(
  session: Session,
  number: number,
  changes: ReadonlyMap<string, number>,
): Promise<number> {
  if (changes.size === 0) return 0;
  const counted = await session.query<{ entries: number; by: number }>(
    `WITH changed AS (
       SELECT * FROM unnest($2::text[], $3::bigint[]) AS c (identity, by)
     ), written AS (
       INSERT INTO identities (gallery, identity, entries)
         SELECT $1, identity, by FROM changed
       ON CONFLICT (gallery, identity)
         DO UPDATE SET entries = identities.entries + excluded.entries
       RETURNING identity, entries
     ) SELECT entries, by FROM written JOIN changed USING (identity)`,
    [number, [...changes.keys()], [...changes.values()]],
  );
  let more = 0;
  for (const { entries, by } of counted)
    if (entries === 0) more--;
    else if (entries === by) more++;
  if (counted.some(({ entries }) => entries === 0))
    await session.query(
      "DELETE FROM identities WHERE gallery = $1 AND identity = ANY ($2::text[]) AND entries = 0",
      [number, [...changes.keys()]],
    );
  return more;
}

function valuesOf(
  number: number,
  { entryId, sequence, identity, enrollment, ...entry }: AddedEntry,
): SqlValue[] {
  const { feature } = enrollment;
  return [
    number,
    sequence,
    entryId,
    identity,
    enrollment.cameraId ?? "",
    enrollment.trackId ?? "",
    enrollment.capturedAtUs ?? null,
    entry.expiresAtUs ?? null,
    entry.enrolledAtUs,
    JSON.stringify(storedAttributes(enrollment.attributes ?? {})),
    Buffer.from(feature.buffer, feature.byteOffset, feature.byteLength),
    entry.crop === undefined ? null : Buffer.from(entry.crop),
    enrollment.cropHash === undefined ? null : Buffer.from(enrollment.cropHash),
  ];
}
