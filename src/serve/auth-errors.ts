import { ReidError } from "#core/errors";

/** A call by nobody who is known: which of the reasons it was is not said. */
export class UnauthenticatedError extends ReidError {
  readonly code = "UNAUTHENTICATED";
  readonly kind = "unauthenticated";

  constructor() {
    super(
      "the call brings no token or client certificate that is known and in force: " +
        "send authorization: Bearer TOKEN, or ask the operator for a token",
      {},
    );
  }
}

/** A call by somebody who may not make it. */
export class PermissionDeniedError extends ReidError<{
  required: string;
  actual: string;
}> {
  readonly code = "PERMISSION_DENIED";
  readonly kind = "permission-denied";

  /**
   * @param what      the RPC, or the field of it that asks for more
   * @param required  a role, or `gallery/NAME`, or `gallery/*` for every one
   * @param actual    the caller's role, or its galleries
   */
  constructor(what: string, required: string, actual: string) {
    super(
      `${what} needs ${required} and the caller has ${actual}: ` +
        "ask the operator for it, or call as somebody who has it",
      { required, actual },
    );
  }
}

/** A call beyond the number that its caller may make in a second. */
export class RateLimitedError extends ReidError<{
  limitPerSecond: number;
  retryAfterMs: number;
}> {
  readonly code = "RATE_LIMITED";
  readonly kind = "resource-exhausted";

  constructor(limitPerSecond: number, retryAfterMs: number) {
    super(
      `the caller may make ${limitPerSecond} calls a second and has made them: ` +
        `try again in ${retryAfterMs} ms, or put more items into one call`,
      { limitPerSecond, retryAfterMs },
    );
  }
}
