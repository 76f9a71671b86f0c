import { createHmac, randomBytes, randomUUID } from "node:crypto";

import type { Session, SqlValue } from "#core/postgres";

import type { Forgotten } from "./forgetting.js";
import type { ForgottenEntry } from "./scaled-changes.js";
import type { ScaledContext } from "./scaled-context.js";
import type { ScaledGallery } from "./scaled-gallery.js";
import type { ScaledRequestLog } from "./scaled-requests.js";
import { SqlWriter } from "./scaled-writer.js";

/** Where an identity is forgotten. */
export interface ScaledForgettingScope {
  readonly galleries: readonly ScaledGallery[];
  /** For the tombstone: the one gallery, or empty for all. */
  readonly gallery: string;
  readonly requests: ScaledRequestLog;
}

/** The key of this deployment's hashes; made with the first, and the same for servers that make it at once. */
async function keyOf(
  session: Session,
): Promise<{ readonly keyId: string; readonly key: Buffer }> {
  const find = () =>
    session.query<{ keyId: string; key: Buffer }>(
      'SELECT key_id AS "keyId", key FROM tombstone_keys ORDER BY made_at, key_id LIMIT 1',
    );
  const [known] = await find();
  if (known !== undefined) return known;
  await session.query(
    "INSERT INTO tombstone_keys (key_id, key) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM tombstone_keys)",
    [randomBytes(8).toString("hex"), randomBytes(32)],
  );
  const [made] = await find();
  return made;
}

/**
 * Forgets an identity in PostgreSQL and Milvus: its entries and kept crops, and the answers that name it.
 *
 * Each gallery's entries go in one transaction with the tombstone, which holds a keyed hash and no name. A crash between
 * two galleries leaves the rest as it was; the same call again goes on.
 *
 * @throws {DatabaseUnavailableError} @throws {GalleryNotFoundError} one was deleted meanwhile
 */
export async function forgetScaled(
  { postgres, clock, collections, log }: ScaledContext,
  identity: string,
  { galleries, gallery, requests }: ScaledForgettingScope,
): Promise<Forgotten> {
  const forgottenAtUs = Math.round(clock.now() * 1000);
  const receiptId = randomUUID();
  const { keyId, key } = await keyOf(postgres);
  const hash = createHmac("sha256", key).update(identity).digest("hex");
  const bury: readonly [string, readonly SqlValue[]] = [
    "INSERT INTO tombstones (receipt_id, key_id, hash, gallery, forgotten_at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    [receiptId, keyId, hash, gallery, forgottenAtUs],
  ];
  const rows: ForgottenEntry[] = [];
  const held = new Map<string, number>();
  for (const one of galleries) {
    const found = await one.forget(identity, (writer, gone) => {
      const sql = SqlWriter.of(writer);
      sql.sql(...bury);
      if (gone.length > 0)
        sql.sql(
          `INSERT INTO forgotten_vectors (gallery, sequence)
           SELECT number, (record ->> 'sequence')::bigint FROM galleries WHERE number = $1
           ON CONFLICT (gallery) DO UPDATE SET sequence = excluded.sequence`,
          [one.number],
        );
    });
    if (found.length > 0) held.set(one.name, found.length);
    rows.push(...found);
  }
  // Also where there is no gallery: a backup may hold it.
  if (galleries.length === 0) await postgres.query(...bury);
  await requests.forget(identity);
  void collections.sweep().catch((error: unknown) => {
    log.warn("vectors of what was forgotten stay in Milvus for now", { error });
  });
  return {
    receiptId,
    forgottenAtUs,
    entryCount: rows.length,
    cropCount: rows.filter(({ hasCrop }) => hasCrop).length,
    galleries: held,
    rows,
  };
}
