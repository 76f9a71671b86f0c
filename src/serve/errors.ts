import { ReidError } from "#core/errors";

/** Least and largest value of a number, ends included. */
export interface Range {
  readonly minimum: number;
  readonly maximum: number;
}

/** Facts of {@link FieldInvalidError}; `minimum` and `maximum` where the field is a number with a range. */
export interface FieldInvalidFacts {
  readonly [name: string]: string | number;
  /** Path in the request. */
  readonly field: string;
  readonly received: string;
  readonly expected: string;
}

/** A field of a request that is missing, out of range or of the wrong form. */
export class FieldInvalidError extends ReidError<FieldInvalidFacts> {
  readonly code = "FIELD_INVALID";
  readonly kind = "invalid-argument";

  /** @param expected  range or form, in words */
  constructor(
    field: string,
    received: unknown,
    expected: string,
    range?: Range,
  ) {
    const shown = showReceived(received);
    super(`${field} is ${shown}: expected ${expected}`, {
      field,
      received: typeof received === "string" ? received.slice(0, 80) : shown,
      expected,
      ...range,
    });
  }
}

/** More items in a call than the limit, or none. */
export class BatchTooLargeError extends ReidError<{
  field: string;
  received: number;
  maximum: number;
}> {
  readonly code = "BATCH_TOO_LARGE";
  readonly kind = "invalid-argument";

  constructor(field: string, received: number, maximum: number) {
    super(
      `${field} holds ${received} items, a call takes 1 to ${maximum}: split it, or leave the call out`,
      { field, received, maximum },
    );
  }
}

/** An answer that is larger than clients take. What a client sends over its limit is refused by the transport. */
export class MessageTooLargeError extends ReidError<{
  responseBytes: number;
  maximumBytes: number;
}> {
  readonly code = "MESSAGE_TOO_LARGE";
  readonly kind = "resource-exhausted";

  constructor(responseBytes: number, maximumBytes: number) {
    super(
      `the answer has ${responseBytes} bytes, a message takes ${maximumBytes}: ` +
        "ask for fewer hits or a smaller page, or for less of each entry",
      { responseBytes, maximumBytes },
    );
  }
}

/** A feature with none or several encodings, a broken length, or no model. */
export class FeatureFormError extends ReidError<{ problem: string }> {
  readonly code = "FEATURE_FORM";
  readonly kind = "invalid-argument";

  constructor(problem: string) {
    super(
      `feature ${problem}: set exactly one of f32le, f16le and values, and the model version that made it`,
      { problem },
    );
  }
}

/** A page token that this server did not give for this request, or one that has expired. */
export class PageTokenInvalidError extends ReidError<{
  field: string;
  problem: string;
}> {
  readonly code = "PAGE_TOKEN_INVALID";
  readonly kind = "invalid-argument";

  constructor(problem: string) {
    super(
      `page_token ${problem}: begin again without one, and keep the other fields as they were`,
      { field: "page_token", problem },
    );
  }
}

/** A model whose dimension is not the one asked for, or crops sent to a gallery of features made elsewhere. */
export class ModelIncompatibleError extends ReidError<{
  model: string;
  expected: string;
  received: string;
}> {
  readonly code = "MODEL_INCOMPATIBLE";
  readonly kind = "failed-precondition";

  constructor(model: string, expected: string, received: string) {
    super(
      `model ${model} gives ${received}, asked for is ${expected}: choose another model or leave the field out`,
      { model, expected, received },
    );
  }
}

/** An RPC or a field of the API that this server does not serve. */
export class UnsupportedError extends ReidError<{ what: string }> {
  readonly code = "UNSUPPORTED";
  readonly kind = "unimplemented";

  /** @param remedy  what to use in its place */
  constructor(what: string, remedy: string) {
    super(`${what} is unsupported by this server: ${remedy}`, { what });
  }
}

/** The server is ending, or the connection is, for its age. */
export class ShuttingDownError extends ReidError<{ retryAfterMs: number }> {
  readonly code = "SHUTTING_DOWN";
  readonly kind = "unavailable";

  constructor(what: "server" | "connection" = "server") {
    super(
      what === "server"
        ? "the server is shutting down: connect again"
        : "the connection has reached its age: connect again",
      { retryAfterMs: what === "server" ? 1000 : 0 },
    );
  }
}

/** A server that everybody could reach and nobody has to authenticate to. */
export class InsecureListenError extends ReidError<{ address: string }> {
  readonly code = "LISTEN_INSECURE";
  readonly kind = "failed-precondition";

  constructor(address: string) {
    super(
      `${address} can be reached from other machines and callers are not authenticated: ` +
        "listen on 127.0.0.1, name who may call (auth), or say with --insecure that it is meant",
      { address },
    );
  }
}

function showReceived(value: unknown): string {
  if (value === undefined || value === null || value === "") return "missing";
  if (typeof value === "string")
    return `"${value.length > 80 ? `${value.slice(0, 80)}…` : value}"`;
  return String(value);
}
