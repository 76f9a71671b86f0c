import type * as Pg from "pg";
import type { Pool, PoolClient } from "pg";

import { ClosedError, ConfigError, ReidError } from "./errors.js";
import {
  DatabaseFailedError,
  DatabaseUnavailableError,
  PackageMissingError,
} from "./postgres-errors.js";
import { StoreFullError, StoreReadOnlyError } from "./store-errors.js";

/** A value as a statement takes it; bytes become `bytea`, arrays become arrays. */
export type SqlValue =
  | string
  | number
  | boolean
  | null
  | Buffer
  | readonly (string | number | null)[];

/** One row of an answer: names as the statement gives them; `bigint` columns are numbers below 2^53. */
export type SqlRow = Readonly<Record<string, unknown>>;

/** One statement with its values, `$1` … */
export interface Sql {
  readonly text: string;
  readonly values: readonly SqlValue[];
}

/** Runs statements one after another on one connection. */
export interface Session {
  /** @throws {DatabaseUnavailableError} @throws {DatabaseFailedError} @throws {UniqueViolation} */
  query<Row extends SqlRow = SqlRow>(
    text: string,
    values?: readonly SqlValue[],
  ): Promise<readonly Row[]>;
}

/** How a transaction sees what others write meanwhile. */
export type Isolation = "committed" | "snapshot";

/** Settings of the connections to one database. */
export interface PostgresOptions {
  /** `postgres://user@host:port/database`, without a password: it is printed with the settings. */
  readonly url: string;
  /** Never logged. */
  readonly password?: string;
  /** Connections at once. Default 16. */
  readonly connections?: number;
}

/** A statement broke a unique constraint; for those who wrote it, not for callers. */
export class UniqueViolation extends DatabaseFailedError {
  readonly constraint: string;

  constructor(constraint: string, cause: string, options?: ErrorOptions) {
    super(cause, "23505", options);
    this.constraint = constraint;
  }
}

/** What every session has, whatever the server's defaults are. */
const sessionSettings = {
  // Acknowledged means flushed.
  synchronous_commit: "on",
  // A machine that is gone, or a process that stands still, must not hold a gallery's lock: others write too.
  tcp_keepalives_idle: "10s",
  tcp_keepalives_interval: "5s",
  tcp_keepalives_count: "3",
  idle_in_transaction_session_timeout: "60s",
} as const;

const door = "pg";

async function loadPg(): Promise<typeof Pg> {
  try {
    return (await import(door)) as typeof Pg;
  } catch (error) {
    throw new PackageMissingError(door, "store.engine: postgres", {
      cause: error,
    });
  }
}

function checkUrl(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const isPostgres =
    parsed !== undefined && /^postgres(ql)?:$/.test(parsed.protocol);
  if (isPostgres && parsed.password === "") return;
  // It may hold a password, which nobody must read in a log: what is wrong is said without it.
  throw new ConfigError(
    "store.postgres.url",
    isPostgres ? "a URL with a password" : "no such URL",
    "postgres://USER@HOST:PORT/DATABASE, with the password in a file",
  );
}

/** A failure of pg's as one of ours. */
function failureOf(error: unknown): ReidError {
  if (error instanceof ReidError) return error;
  const { code = "", constraint = "" } = error as {
    code?: string;
    constraint?: string;
  };
  const cause = error instanceof Error ? error.message : String(error);
  // SQLSTATE classes, PostgreSQL's manual, appendix A.
  if (code === "23505")
    return new UniqueViolation(constraint, cause, { cause: error });
  if (code === "53100")
    return new StoreFullError("of PostgreSQL", 0, 1, { cause: error });
  if (code === "25006")
    return new StoreReadOnlyError("of PostgreSQL", cause, { cause: error });
  const isState =
    /^[0-9A-Z]{5}$/.test(code) && !/^(08|57|53|28|25P03)/.test(code);
  return isState
    ? new DatabaseFailedError(cause, code, { cause: error })
    : new DatabaseUnavailableError(cause === "" ? code : cause, {
        cause: error,
      });
}

/** Whether a connection can go back to the pool after this. */
function isHarmless(error: unknown): boolean {
  return (
    error instanceof ReidError && !(error instanceof DatabaseUnavailableError)
  );
}

class ClientSession implements Session {
  readonly #client: Pool | PoolClient;

  constructor(client: Pool | PoolClient) {
    this.#client = client;
  }

  async query<Row extends SqlRow>(
    text: string,
    values: readonly SqlValue[] = [],
  ): Promise<readonly Row[]> {
    try {
      const { rows } = await this.#client.query<Row>(text, [...values]);
      return rows;
    } catch (error) {
      throw failureOf(error);
    }
  }
}

/** A database of PostgreSQL, through a bounded pool of connections. */
export class Postgres implements Session {
  /** At once, at most. */
  readonly connections: number;
  readonly #pool: Pool;
  readonly #direct: Session;
  #closed: Promise<void> | undefined;

  private constructor(pool: Pool, connections: number) {
    this.connections = connections;
    this.#pool = pool;
    this.#direct = new ClientSession(pool);
  }

  /**
   * Opens the pool and asks the server once.
   *
   * @throws {PackageMissingError} `pg` is not installed
   * @throws {ConfigError} the URL is none
   * @throws {DatabaseUnavailableError} nobody answers, or lets us in
   */
  static async open(options: PostgresOptions): Promise<Postgres> {
    checkUrl(options.url);
    const { default: pg } = await loadPg();
    const types = {
      getTypeParser: ((oid: number, format?: "text" | "binary") =>
        // bigint: sequences and microseconds stay far below 2^53.
        oid === 20 && format !== "binary"
          ? Number
          : pg.types.getTypeParser(oid, format as "text")) as never,
    };
    const { connections = 16 } = options;
    const pool = new pg.Pool({
      connectionString: options.url,
      ...(options.password === undefined ? {} : { password: options.password }),
      max: connections,
      options: Object.entries(sessionSettings)
        .map(([name, value]) => `-c ${name}=${value}`)
        .join(" "),
      application_name: "reid",
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
      types,
    });
    // A connection that breaks while nobody uses it: the next query says so, or gets a new one.
    pool.on("error", () => undefined);
    const postgres = new Postgres(pool, connections);
    try {
      await postgres.query("SELECT 1");
    } catch (error) {
      await postgres.close();
      throw error;
    }
    return postgres;
  }

  async query<Row extends SqlRow = SqlRow>(
    text: string,
    values: readonly SqlValue[] = [],
  ): Promise<readonly Row[]> {
    this.#assertOpen();
    return this.#direct.query<Row>(text, values);
  }

  /**
   * One transaction: all of it is durable when this resolves, or nothing of it happened.
   *
   * @param isolation  `snapshot`: every statement sees the database as at the first one; only for reading
   * @throws what the action throws; {DatabaseUnavailableError} also where it is unknown whether it was committed
   */
  transaction<Result>(
    action: (session: Session) => Promise<Result>,
    isolation: Isolation = "committed",
  ): Promise<Result> {
    return this.session((session) => inTransaction(session, action, isolation));
  }

  /** Several statements on one connection, such as those between a lock and its release. */
  async session<Result>(
    action: (session: Session) => Promise<Result>,
  ): Promise<Result> {
    this.#assertOpen();
    let client: PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      throw failureOf(error);
    }
    // A server that goes away says so to the query under way; the event alone must not end the process.
    const ignore = (): void => undefined;
    client.on("error", ignore);
    let failure: unknown;
    try {
      return await action(new ClientSession(client));
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      client.off("error", ignore);
      client.release(failure !== undefined && !isHarmless(failure));
    }
  }

  /** Waits for what is under way; idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#pool.end();
    return this.#closed;
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw new ClosedError("the database");
  }
}

/** Runs an action between BEGIN and COMMIT of a session that is in no transaction. */
export async function inTransaction<Result>(
  session: Session,
  action: (session: Session) => Promise<Result>,
  isolation: Isolation = "committed",
): Promise<Result> {
  await session.query(
    isolation === "snapshot"
      ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
      : "BEGIN",
  );
  let result: Result;
  try {
    result = await action(session);
  } catch (error) {
    // Where the connection is gone the server rolls back by itself.
    await session.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
  await session.query("COMMIT");
  return result;
}
