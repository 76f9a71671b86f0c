import { UniqueViolation, type Postgres } from "#core/postgres";
import type { Writer } from "#core/store";
import { GalleryBusyError } from "#index/errors";
import { takenFrom } from "#index/scaled-requests";
import { SqlWriter } from "#index/scaled-writer";
import type {
  Exchange,
  OperationTable,
  SharedOperations,
} from "./operation-table.js";
import type { Operation } from "./operation-types.js";

/** How long a server that is not heard of keeps its work. */
const leaseSeconds = 15;
/** How far back an exchange looks: transactions that began so long ago have ended. */
const overlapSeconds = 60;

/** The unique index that lets one server at a time work on a gallery. */
const oneAtATime = "operations_one_at_a_time";

const prefix = "gallery/";

interface RecordRow extends Readonly<Record<string, unknown>> {
  readonly record: Operation;
}

/** Operations of all servers of a deployment, in PostgreSQL: who dies loses its work to another. */
export class PostgresOperations implements OperationTable {
  readonly shared: SharedOperations;
  readonly #postgres: Postgres;
  /** Names this process; new at each start. */
  readonly #owner: string;
  /** Time of the database. */
  #seenAt = "epoch";

  /** @param postgres  with the schema of `ScaledGalleries` */
  constructor(postgres: Postgres, owner: string) {
    this.#postgres = postgres;
    this.#owner = owner;
    this.shared = {
      exchange: (running) => this.#exchange(running),
      askToStop: (operationId) => this.#askToStop(operationId),
      leave: () => this.#leave(),
    };
  }

  async read(): Promise<readonly Operation[]> {
    const rows = await this.#postgres.query<RecordRow>(
      "SELECT record FROM operations",
    );
    return rows.map(operationFrom);
  }

  async put(
    operations: readonly Operation[],
    within?: (writer: Writer) => void,
  ): Promise<void> {
    try {
      await this.#postgres.transaction(async (session) => {
        for (const one of operations)
          await session.query(
            `INSERT INTO operations (operation_id, kind, state, subject, record, owner, alive_until)
             VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 second')
             ON CONFLICT (operation_id) DO UPDATE
               SET state = excluded.state, record = excluded.record, changed_at = clock_timestamp()
               WHERE operations.owner = excluded.owner`,
            [
              ...[one.operationId, one.kind, one.state, one.subject],
              ...[JSON.stringify(one), this.#owner, leaseSeconds],
            ],
          );
        const writer = new SqlWriter();
        within?.(writer);
        await writer.run(session).catch(takenFrom);
      });
    } catch (error) {
      if (error instanceof UniqueViolation && error.constraint === oneAtATime)
        throw await this.#busy(operations);
      throw error;
    }
  }

  async remove(operationIds: readonly string[]): Promise<void> {
    await this.#postgres.query(
      "DELETE FROM operations WHERE operation_id = ANY ($1::text[])",
      [operationIds],
    );
  }

  async claim(): Promise<readonly Operation[]> {
    const rows = await this.#postgres.query<RecordRow>(
      `UPDATE operations SET owner = $1, changed_at = clock_timestamp(),
         alive_until = clock_timestamp() + $2 * interval '1 second'
       WHERE state = 'running' AND alive_until < clock_timestamp()
       RETURNING record`,
      [this.#owner, leaseSeconds],
    );
    return rows.map(operationFrom);
  }

  async #exchange(running: readonly Operation[]): Promise<Exchange> {
    const held = running.length === 0 ? [] : await this.#renew(running);
    const ids = new Set(held.map(({ id }) => id));
    const [{ now }] = await this.#postgres.query<{ now: string }>(
      "SELECT clock_timestamp()::text AS now",
    );
    const changed = await this.#postgres.query<RecordRow>(
      `SELECT record FROM operations
       WHERE owner <> $1 AND changed_at >= $2::timestamptz - $3 * interval '1 second'`,
      [this.#owner, this.#seenAt, overlapSeconds],
    );
    this.#seenAt = now;
    return {
      changed: changed.map(operationFrom),
      toStop: held.filter(({ isCancelled }) => isCancelled).map(({ id }) => id),
      lost: running
        .map(({ operationId }) => operationId)
        .filter((id) => !ids.has(id)),
    };
  }

  /** @returns what is still this server's */
  #renew(running: readonly Operation[]) {
    return this.#postgres.query<{ id: string; isCancelled: boolean }>(
      `UPDATE operations AS o SET record = r.record::jsonb, changed_at = clock_timestamp(),
         alive_until = clock_timestamp() + $4 * interval '1 second'
       FROM unnest($2::text[], $3::text[]) AS r (id, record)
       WHERE o.operation_id = r.id AND o.owner = $1 AND o.state = 'running'
       RETURNING o.operation_id AS id, o.is_cancelled AS "isCancelled"`,
      [
        this.#owner,
        running.map(({ operationId }) => operationId),
        running.map((one) => JSON.stringify(one)),
        leaseSeconds,
      ],
    );
  }

  async #askToStop(operationId: string): Promise<void> {
    await this.#postgres.query(
      "UPDATE operations SET is_cancelled = TRUE WHERE operation_id = $1 AND state = 'running'",
      [operationId],
    );
  }

  async #leave(): Promise<void> {
    await this.#postgres.query(
      "UPDATE operations SET alive_until = '-infinity' WHERE owner = $1 AND state = 'running'",
      [this.#owner],
    );
  }

  /** Whose work is in the way of new operations. */
  async #busy(operations: readonly Operation[]): Promise<GalleryBusyError> {
    const [found] = await this.#postgres.query<{ id: string; subject: string }>(
      `SELECT operation_id AS id, subject FROM operations
       WHERE state = 'running' AND kind <> 'snapshot' AND subject = ANY ($1::text[])`,
      [operations.map(({ subject }) => subject)],
    );
    const subject = found?.subject ?? operations[0].subject;
    const name = subject.slice(prefix.length);
    return new GalleryBusyError(name, "worked on", found?.id);
  }
}

/** JSON leaves out what is undefined. */
function operationFrom({ record }: RecordRow): Operation {
  return {
    ...record,
    finishedAtMs: record.finishedAtMs,
    error: record.error,
    detail: record.detail,
  };
}
