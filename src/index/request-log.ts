import type { Store, Writer } from "#core/store";
import type { Clock } from "#core/clock";

/** Puts the response of a request into the write's own transaction. */
export type KeepResponse = (writer: Writer, response: Uint8Array) => void;

/** A request that carries an id. */
export interface IdentifiedRequest {
  /** The caller's UUID. */
  readonly requestId: string;
  /** The request's bytes: the same id with other bytes is refused. */
  readonly request: Uint8Array;
}

/** Responses kept for 24 h by request id, in the transaction of the write they answer. */
export declare class RequestLog {
  constructor(store: Store, clock: Clock);
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
  /** Forgets what is older than 24 h. */
  sweep(): Promise<void>;
}
