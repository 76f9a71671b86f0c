import { randomBytes } from "node:crypto";

import { DatabaseFailedError } from "#core/postgres-errors";
import type { Postgres } from "#core/postgres";

/**
 * What each version of the schema adds to the one before; never edited, only continued.
 *
 * Ids are compared byte by byte, hence COLLATE "C". Layout in words: docs/scale-out.md.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE deployment (id text NOT NULL);
  CREATE TABLE galleries (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    record jsonb NOT NULL
  );
  CREATE TABLE entries (
    gallery bigint NOT NULL,
    sequence bigint NOT NULL,
    entry_id text COLLATE "C" NOT NULL,
    identity text COLLATE "C" NOT NULL,
    camera_id text COLLATE "C" NOT NULL,
    track_id text COLLATE "C" NOT NULL,
    captured_at_us bigint,
    expires_at_us bigint,
    enrolled_at_us bigint NOT NULL,
    attributes jsonb NOT NULL,
    feature bytea NOT NULL,
    crop bytea,
    PRIMARY KEY (gallery, sequence),
    UNIQUE (gallery, entry_id)
  );
  -- Features do not shrink: trying to costs every write.
  ALTER TABLE entries ALTER COLUMN feature SET STORAGE EXTERNAL;
  ALTER TABLE entries ALTER COLUMN crop SET STORAGE EXTERNAL;
  CREATE INDEX entries_identity ON entries (gallery, identity) WHERE identity <> '';
  CREATE INDEX entries_expiry ON entries (gallery, expires_at_us) WHERE expires_at_us IS NOT NULL;
  CREATE TABLE identities (
    gallery bigint NOT NULL,
    identity text COLLATE "C" NOT NULL,
    entries bigint NOT NULL,
    PRIMARY KEY (gallery, identity)
  );
  CREATE TABLE outbox (
    gallery bigint NOT NULL,
    sequence bigint NOT NULL,
    removed boolean NOT NULL,
    PRIMARY KEY (gallery, removed, sequence)
  );
  CREATE TABLE dropped (gallery bigint PRIMARY KEY);
  CREATE TABLE requests (
    request_id text PRIMARY KEY,
    request_hash text NOT NULL,
    response bytea NOT NULL,
    kept_at_ms bigint NOT NULL
  );
  CREATE INDEX requests_kept_at ON requests (kept_at_ms);
  `,
  `
  -- Collections that leave Milvus once no search is in them.
  CREATE TABLE dropped_collections (
    name text PRIMARY KEY,
    gallery bigint NOT NULL
  );
  -- Galleries whose collections still hold bytes of what was forgotten up to a sequence.
  CREATE TABLE forgotten_vectors (
    gallery bigint PRIMARY KEY,
    sequence bigint NOT NULL
  );
  CREATE TABLE tombstone_keys (
    key_id text PRIMARY KEY,
    key bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE tombstones (
    receipt_id text PRIMARY KEY,
    key_id text NOT NULL,
    hash text NOT NULL,
    gallery text COLLATE "C" NOT NULL,
    forgotten_at_us bigint NOT NULL
  );
  CREATE TABLE operations (
    operation_id text PRIMARY KEY,
    kind text NOT NULL,
    state text NOT NULL,
    subject text NOT NULL,
    record jsonb NOT NULL,
    -- The server that works on it, and until when others leave it to it.
    owner text NOT NULL,
    alive_until timestamptz NOT NULL,
    is_cancelled boolean NOT NULL DEFAULT FALSE,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
  );
  CREATE INDEX operations_changed ON operations (changed_at);
  CREATE UNIQUE INDEX operations_one_at_a_time ON operations (subject)
    WHERE state = 'running' AND kind <> 'snapshot' AND subject LIKE 'gallery/%';
  `,
  `
  -- Under the key of the server that took the crop: by it its memory finds its rows.
  ALTER TABLE entries ADD COLUMN crop_hash bytea;
  `,
];

/** Advisory locks: the first key says what for, the second which gallery. */
export const locks = {
  /** Held by the server that brings a gallery's outbox to Milvus. */
  drain: 0x7265_6964,
  /** Shared by searches, exclusive to removals in Milvus. */
  gate: 0x7265_6965,
  /** Held, by a gallery's name, while one who may enrol decides. */
  decide: 0x7265_6967,
} as const;

const migrationLock = 0x7265_6966;

/**
 * Brings the database to this version's schema; servers that start together do it once.
 *
 * @returns the deployment's id, part of its collections' names: several may share one Milvus
 * @throws {DatabaseFailedError} the schema is of a later version
 */
export async function migrate(postgres: Postgres): Promise<string> {
  return postgres.transaction(async (session) => {
    await session.query("SELECT pg_advisory_xact_lock($1)", [migrationLock]);
    await session.query(
      "CREATE TABLE IF NOT EXISTS migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    );
    const [{ version }] = await session.query<{ version: number }>(
      "SELECT coalesce(max(version), 0) AS version FROM migrations",
    );
    if (version > migrations.length)
      throw new DatabaseFailedError(
        `the schema is version ${version}, this server knows ${migrations.length}`,
        "schema",
      );
    for (const [i, migration] of migrations.entries()) {
      if (i < version) continue;
      await session.query(migration);
      await session.query("INSERT INTO migrations (version) VALUES ($1)", [
        i + 1,
      ]);
    }
    const [known] = await session.query<{ id: string }>(
      "SELECT id FROM deployment",
    );
    if (known !== undefined) return known.id;
    const id = randomBytes(4).toString("hex");
    await session.query("INSERT INTO deployment (id) VALUES ($1)", [id]);
    return id;
  });
}
