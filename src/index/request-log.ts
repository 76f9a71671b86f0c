import { createHash } from "node:crypto";

import type { Clock } from "#core/clock";
import type { Store, Table, Writer } from "#core/store";

import { RequestIdReusedError } from "./errors.js";

/** Puts the response of a request into the write's own transaction. */
export type KeepResponse = (writer: Writer, response: Uint8Array) => void;

/** A request that carries an id. */
export interface IdentifiedRequest {
  /** The caller's UUID. */
  readonly requestId: string;
  /** The method's path and the request's bytes: the same id with others is refused. */
  readonly request: Uint8Array;
}

interface KeptResponse {
  readonly requestHash: string;
  readonly response: Uint8Array;
  readonly keptAtMs: number;
}

// api.md section 2: "The server keeps the response for 24 h".
const keptForMs = 24 * 60 * 60 * 1000;
const sweptAtOnce = 256;

/** Responses kept for 24 h by request id, in the transaction of the write they answer. */
export class RequestLog {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #table: Table<KeptResponse>;
  /** [keptAtMs, request id]: what is old is found without reading what is not. */
  readonly #times: Table<Uint8Array>;
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#table = store.table<KeptResponse>("requests", "data");
    this.#times = store.table("request-times", "bytes");
  }

  /**
   * Makes a call once per request id: again with the same bytes gives the first response.
   *
   * @param identified  undefined: the call is made
   * @param call        makes the write, calls `keep` inside its transaction, returns the same response
   * @throws {RequestIdReusedError} the id was used for other bytes
   */
  async once(
    identified: IdentifiedRequest | undefined,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    if (identified === undefined) return call(() => undefined);
    const { requestId, request } = identified;
    // The same id twice at once: the second waits, and then finds the response or tries for itself.
    let before: Promise<Uint8Array> | undefined;
    while ((before = this.#underWay.get(requestId)) !== undefined)
      await before.catch(() => undefined);
    const requestHash = createHash("sha256").update(request).digest("hex");
    const kept = this.#table.get(requestId);
    const now = this.#clock.now();
    if (kept !== undefined && now - kept.keptAtMs < keptForMs) {
      if (kept.requestHash !== requestHash)
        throw new RequestIdReusedError(requestId);
      return kept.response;
    }
    const calling = call((writer, response) => {
      writer.put(this.#table, requestId, {
        requestHash,
        response,
        keptAtMs: now,
      });
      writer.put(this.#times, [now, requestId], new Uint8Array());
    });
    this.#underWay.set(requestId, calling);
    try {
      return await calling;
    } finally {
      this.#underWay.delete(requestId);
    }
  }

  /** Forgets what is older than 24 h. */
  async sweep(): Promise<void> {
    const end = [this.#clock.now() - keptForMs + 1];
    for (;;) {
      const old = [...this.#times.range({ end, limit: sweptAtOnce })];
      if (old.length === 0) return;
      await this.#store.write((writer) => {
        for (const { key } of old) {
          writer.remove(this.#times, key);
          const [keptAtMs, requestId] = key as readonly [number, string];
          // The id may have been used again since, after its 24 h.
          if (this.#table.get(requestId)?.keptAtMs === keptAtMs)
            writer.remove(this.#table, requestId);
        }
      });
    }
  }
}
