import { Postgres } from "#core/postgres";

import { startWireServer, type WireServer } from "./wire-server.js";

/** A server whose store can be full, on either engine. */
export interface FillableServer extends WireServer {
  /** From now on the store takes no more. */
  fill(): Promise<void>;
}

const plentyBytes = 1e12;

/** What PostgreSQL says when its disk is full; its own is larger than a test should fill. */
const fillStatements: readonly string[] = [
  `CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
     RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
   END $$`,
  "CREATE TRIGGER disk_is_full BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION disk_is_full()",
];

/** Starts a server with room; a double stands for the disk: this server's, or PostgreSQL's. */
export async function startFillableServer(): Promise<FillableServer> {
  const disk = { freeBytes: plentyBytes };
  const wire = await startWireServer(
    { store: { min_free_bytes: 1e6 } },
    { store: { freeBytes: async () => disk.freeBytes } },
  );
  return {
    ...wire,
    fill: async () => {
      if (wire.database === undefined) disk.freeBytes = 10;
      else await run(wire.database, fillStatements);
    },
    close: async () => {
      disk.freeBytes = plentyBytes;
      await wire.close();
    },
  };
}

async function run(url: string, statements: readonly string[]): Promise<void> {
  const database = await Postgres.open({ url, connections: 1 });
  try {
    for (const one of statements) await database.query(one);
  } finally {
    await database.close();
  }
}
