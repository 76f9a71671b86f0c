import { createHash } from "node:crypto";

import type { Clock } from "#core/clock";
import { UniqueViolation, type Postgres } from "#core/postgres";
import type { Writer } from "#core/store";

import { RequestIdReusedError } from "./errors.js";
import {
  keptForMs,
  type IdentifiedRequest,
  type KeepResponse,
  type RequestLog,
} from "./request-log.js";
import { RequestTakenError } from "./scaled-errors.js";
import { SqlWriter } from "./scaled-writer.js";

/** Times a request that another server has just answered is looked up before the caller has to try again. */
const triesAtMost = 3;

/** Responses kept by request id in PostgreSQL: any server gives the one that the first server gave. */
export class ScaledRequestLog implements RequestLog {
  readonly #postgres: Postgres;
  readonly #clock: Clock;
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  constructor(postgres: Postgres, clock: Clock) {
    this.#postgres = postgres;
    this.#clock = clock;
  }

  async once(
    identified: IdentifiedRequest | undefined,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    if (identified === undefined) return call(() => undefined);
    const { requestId, request } = identified;
    let before: Promise<Uint8Array> | undefined;
    while ((before = this.#underWay.get(requestId)) !== undefined)
      await before.catch(() => undefined);
    const answering = this.#answer(
      requestId,
      createHash("sha256").update(request).digest("hex"),
      call,
    );
    this.#underWay.set(requestId, answering);
    try {
      return await answering;
    } finally {
      this.#underWay.delete(requestId);
    }
  }

  write(action: (writer: Writer) => void): Promise<void> {
    return this.#postgres.transaction(async (session) => {
      const writer = new SqlWriter();
      action(writer);
      await writer.run(session).catch(takenFrom);
    });
  }

  async sweep(): Promise<void> {
    await this.#postgres.query("DELETE FROM requests WHERE kept_at_ms <= $1", [
      Math.round(this.#clock.now()) - keptForMs,
    ]);
  }

  async #answer(
    requestId: string,
    requestHash: string,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    for (let tries = 1; ; tries++) {
      const kept = await this.#kept(requestId);
      if (kept !== undefined) {
        if (kept.request_hash !== requestHash)
          throw new RequestIdReusedError(requestId);
        return kept.response;
      }
      try {
        return await call((writer, response) =>
          this.#keep(writer, { requestId, requestHash, response }),
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
  ): Promise<{ request_hash: string; response: Buffer } | undefined> {
    const [kept] = await this.#postgres.query<{
      request_hash: string;
      response: Buffer;
    }>(
      "SELECT request_hash, response FROM requests WHERE request_id = $1 AND kept_at_ms > $2",
      [requestId, Math.round(this.#clock.now()) - keptForMs],
    );
    return kept;
  }

  #keep(
    writer: Writer,
    kept: {
      readonly requestId: string;
      readonly requestHash: string;
      readonly response: Uint8Array;
    },
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
