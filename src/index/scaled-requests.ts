import type { Clock } from "#core/clock";
import { UniqueViolation, type Postgres } from "#core/postgres";
import type { Writer } from "#core/store";

import {
  keptForMs,
  type KeepResponse,
  type RequestLog,
} from "./request-log.js";
import {
  fieldBytes,
  RequestTurns,
  responseKept,
  type IdentifiedRequest,
  type RequestMark,
} from "./request-turns.js";
import { RequestTakenError } from "./scaled-errors.js";
import { SqlWriter } from "./scaled-writer.js";

/** Times a request that another server has just answered is looked up before the caller has to try again. */
const triesAtMost = 3;

/** Responses kept by request id in PostgreSQL: any server gives the one that the first server gave. */
export class ScaledRequestLog implements RequestLog {
  readonly #postgres: Postgres;
  readonly #clock: Clock;
  readonly #turns = new RequestTurns();

  constructor(postgres: Postgres, clock: Clock) {
    this.#postgres = postgres;
    this.#clock = clock;
  }

  async once(
    identified: IdentifiedRequest | undefined,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    if (identified === undefined) return call(() => undefined);
    return this.#turns.inTurn(identified, (mark) => this.#answer(mark, call));
  }

  write(action: (writer: Writer) => void): Promise<void> {
    return this.#postgres.transaction(async (session) => {
      const writer = new SqlWriter();
      action(writer);
      await writer.run(session).catch(takenFrom);
    });
  }

  /**
   * Removes every response that names something: the same id then makes its call again.
   *
   * @param name  as a string field of a protobuf message holds it
   */
  async forget(name: string): Promise<void> {
    await this.#postgres.query(
      "DELETE FROM requests WHERE position($1::bytea IN response) > 0",
      [fieldBytes(name)],
    );
  }

  async sweep(): Promise<void> {
    await this.#postgres.query("DELETE FROM requests WHERE kept_at_ms <= $1", [
      Math.round(this.#clock.now()) - keptForMs,
    ]);
  }

  async #answer(
    mark: RequestMark,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    for (let tries = 1; ; tries++) {
      const kept = await this.#kept(mark.requestId);
      if (kept !== undefined) return responseKept(kept, mark);
      try {
        return await call((writer, response) =>
          this.#keep(writer, { ...mark, response }),
        );
      } catch (error) {
        // Another server was first: its write is committed, ours was rolled back.
        const isTaken = error instanceof RequestTakenError;
        if (!isTaken || tries === triesAtMost) throw error;
      }
    }
  }

  async #kept(
    requestId: string,
  ): Promise<{ requestHash: string; response: Buffer } | undefined> {
    const [kept] = await this.#postgres.query<{
      requestHash: string;
      response: Buffer;
    }>(
      'SELECT request_hash AS "requestHash", response FROM requests WHERE request_id = $1 AND kept_at_ms > $2',
      [requestId, Math.round(this.#clock.now()) - keptForMs],
    );
    return kept;
  }

  #keep(
    writer: Writer,
    kept: RequestMark & { readonly response: Uint8Array },
  ): void {
    const now = Math.round(this.#clock.now());
    const sql = SqlWriter.of(writer);
    sql.sql("DELETE FROM requests WHERE request_id = $1 AND kept_at_ms <= $2", [
      kept.requestId,
      now - keptForMs,
    ]);
    sql.sql(
      "INSERT INTO requests (request_id, request_hash, response, kept_at_ms) VALUES ($1, $2, $3, $4)",
      [kept.requestId, kept.requestHash, Buffer.from(kept.response), now],
    );
  }
}

/** What a statement that keeps a response failed of; for `catch`. @throws always */
export function takenFrom(error: unknown): never {
  if (error instanceof UniqueViolation && error.constraint === "requests_pkey")
    throw new RequestTakenError("");
  throw error;
}
