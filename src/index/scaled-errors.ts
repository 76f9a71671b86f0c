import { ReidError } from "#core/errors";

/** Milvus cannot be reached, or refused what it was asked. */
export class MilvusUnavailableError extends ReidError<{
  operation: string;
  cause: string;
}> {
  readonly code = "MILVUS_UNAVAILABLE";
  readonly kind = "unavailable";

  constructor(operation: string, cause: string, options?: ErrorOptions) {
    super(
      `Milvus failed at ${operation} (${cause}): check index.milvus and the server behind it`,
      { operation, cause },
      options,
    );
  }
}

/** A call that only the embedded engines can serve: PostgreSQL and Milvus have tools of their own for it. */
export class EngineUnsupportedError extends ReidError<{ what: string }> {
  readonly code = "ENGINE_UNSUPPORTED";
  readonly kind = "unimplemented";

  /** @param instead  what to do on Milvus and PostgreSQL */
  constructor(what: string, instead: string) {
    super(`${what} is not served with index.engine milvus: ${instead}`, {
      what,
    });
  }
}

/** Another server was first with the same request id; for `RequestLog`, which then reads its response. */
export class RequestTakenError extends ReidError<{ requestId: string }> {
  readonly code = "REQUEST_TAKEN";
  readonly kind = "unavailable";

  constructor(requestId: string) {
    super(
      `a request${requestId === "" ? "" : ` ${requestId}`} is being answered by another server: send it again`,
      { requestId },
    );
  }
}
