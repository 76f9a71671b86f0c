import type { Clock } from "#core/clock";
import type { Store, Table, Writer } from "#core/store";

import {
  fieldBytes,
  RequestTurns,
  responseKept,
  type IdentifiedRequest,
} from "./request-turns.js";
import { Turns } from "./turns.js";

/** Puts the response of a request into the write's own transaction. */
export type KeepResponse = (writer: Writer, response: Uint8Array) => void;

/** Responses kept for 24 h by request id, in the transaction of the write they answer. */
export interface RequestLog {
  /**
   * Makes a call once per request id: again with the same bytes gives the first response.
   *
   * @param identified  undefined: the call is made
   * @param call        makes the write, calls `keep` inside its transaction, returns the same response
   * @throws {RequestIdReusedError} the id was used for other bytes
   */
  once(
    identified: IdentifiedRequest | undefined,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array>;
  /** A transaction of its own, for the response of a call that wrote nothing else. */
  write(action: (writer: Writer) => void): Promise<void>;
  /** Forgets what is older than 24 h. */
  sweep(): Promise<void>;
}

interface KeptResponse {
  readonly requestHash: string;
  readonly response: Uint8Array;
  readonly keptAtMs: number;
}

/** api.md section 2: "The server keeps the response for 24 h". */
export const keptForMs = 24 * 60 * 60 * 1000;
const sweptAtOnce = 256;
/** Responses looked through in one turn of the main thread. */
const scannedAtOnce = 64;

/** Responses kept in LMDB. */
export class StoreRequestLog implements RequestLog {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #table: Table<KeptResponse>;
  /** [keptAtMs, request id]: what is old is found without reading what is not. */
  readonly #times: Table<Uint8Array>;
  readonly #turns = new RequestTurns();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#table = store.table<KeptResponse>("requests", "data");
    this.#times = store.table("request-times", "bytes");
  }

  async once(
    identified: IdentifiedRequest | undefined,
    call: (keep: KeepResponse) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    if (identified === undefined) return call(() => undefined);
    return this.#turns.inTurn(identified, async (mark) => {
      const { requestId, requestHash } = mark;
      const kept = this.#table.get(requestId);
      const keptAtMs = this.#clock.now();
      if (kept !== undefined && keptAtMs - kept.keptAtMs < keptForMs)
        return responseKept(kept, mark);
      return call((writer, response) => {
        writer.put(this.#table, requestId, { requestHash, response, keptAtMs });
        writer.put(this.#times, [keptAtMs, requestId], new Uint8Array());
      });
    });
  }

  write(action: (writer: Writer) => void): Promise<void> {
    return this.#store.write(action);
  }

  /**
   * Removes every response that names something: the same id then makes its call again.
   *
   * @param name  as a string field of a protobuf message holds it
   * @returns     how many were removed
   */
  async forget(name: string): Promise<number> {
    const field = fieldBytes(name);
    const turns = new Turns(scannedAtOnce);
    let removed = 0;
    let found: { readonly id: string; readonly keptAtMs: number }[] = [];
    const flush = async () => {
      const listed = found;
      found = [];
      removed += listed.length;
      await this.#store.write((writer) => {
        for (const { id, keptAtMs } of listed) {
          writer.remove(this.#table, id);
          writer.remove(this.#times, [keptAtMs, id]);
        }
      });
    };
    for (const { key, value } of this.#table.range()) {
      if (Buffer.from(value.response).includes(field))
        found.push({ id: String(key), keptAtMs: value.keptAtMs });
      if (found.length >= sweptAtOnce) await flush();
      if (turns.isOver) await turns.next();
    }
    if (found.length > 0) await flush();
    return removed;
  }

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
