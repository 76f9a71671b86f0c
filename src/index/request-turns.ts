import { createHash } from "node:crypto";

import { RequestIdReusedError } from "./errors.js";

/** A request that carries an id. */
export interface IdentifiedRequest {
  /** The caller's UUID. */
  readonly requestId: string;
  /** The method's path and the request's bytes: the same id with others is refused. */
  readonly request: Uint8Array;
}

/** A request's id, and what tells its bytes from others. */
export interface RequestMark {
  readonly requestId: string;
  /** SHA-256 of its bytes, hexadecimal. */
  readonly requestHash: string;
}

/** Calls of one server by request id: those with the same id come one after another. */
export class RequestTurns {
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  /**
   * Answers a request when no other with its id is under way: the second of two then finds the response of the
   * first, or tries for itself.
   */
  async inTurn(
    { requestId, request }: IdentifiedRequest,
    answer: (mark: RequestMark) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    let before: Promise<Uint8Array> | undefined;
    while ((before = this.#underWay.get(requestId)) !== undefined)
      await before.catch(() => undefined);
    const requestHash = createHash("sha256").update(request).digest("hex");
    const answering = answer({ requestId, requestHash });
    this.#underWay.set(requestId, answering);
    try {
      return await answering;
    } finally {
      this.#underWay.delete(requestId);
    }
  }
}

/**
 * The response that was kept under a request's id.
 *
 * @throws {RequestIdReusedError} it was kept for other bytes
 */
export function responseKept(
  kept: { readonly requestHash: string; readonly response: Uint8Array },
  { requestId, requestHash }: RequestMark,
): Uint8Array {
  if (kept.requestHash !== requestHash)
    throw new RequestIdReusedError(requestId);
  return kept.response;
}

/**
 * What a response holds that names something.
 *
 * @param name  as a string field of a protobuf message holds it
 * @returns     the name behind its length
 */
export function fieldBytes(name: string): Buffer {
  const text = Buffer.from(name);
  const length: number[] = [];
  let rest = text.length;
  while (rest >= 128) {
    length.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return Buffer.concat([Buffer.from([...length, rest]), text]);
}
