/** What the caller can do about a failure; decides the gRPC status and the exit code. */
export type ErrorKind =
  | "invalid-argument"
  | "failed-precondition"
  | "not-found"
  | "already-exists"
  | "unauthenticated"
  | "permission-denied"
  | "resource-exhausted"
  | "unavailable"
  | "deadline-exceeded"
  | "cancelled"
  | "data-loss"
  | "unimplemented"
  | "internal";

/** The values a message speaks of, once more as data: they become google.rpc.ErrorInfo.metadata. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean>>;

/** Base of every error this project throws on purpose. Anything else that escapes is a bug. */
export abstract class ReidError<
  Facts extends ErrorFacts = ErrorFacts,
> extends Error {
  /** Stable name of the failure, google.rpc.ErrorInfo.reason. Never reused for another meaning. */
  abstract readonly code: string;
  abstract readonly kind: ErrorKind;
  readonly facts: Facts;

  constructor(message: string, facts: Facts, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.facts = facts;
  }
}

/** A failure as plain data: what survives a structured clone between threads. */
export interface ErrorData {
  readonly name: string;
  readonly code: string;
  readonly kind: ErrorKind;
  readonly message: string;
  readonly facts: ErrorFacts;
}

/** A ReidError that was thrown in another thread: same name, code, kind, message and facts as there. */
export class RemoteError extends ReidError {
  readonly code: string;
  readonly kind: ErrorKind;

  constructor(data: ErrorData) {
    super(data.message, data.facts);
    this.name = data.name;
    this.code = data.code;
    this.kind = data.kind;
  }
}

/**
 * Turns anything thrown into data that can be posted to another thread.
 *
 * A structured clone keeps an Error's message and stack and loses class, code and facts.
 *
 * @returns an `INTERNAL` failure for what is not a ReidError
 */
export function dataFromError(error: unknown): ErrorData {
  if (error instanceof ReidError) {
    const { name, code, kind, message, facts } = error;
    return { name, code, kind, message, facts };
  }
  const message =
    error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    name: "InternalError",
    code: "INTERNAL",
    kind: "internal",
    message,
    facts: {},
  };
}

/** Rebuilds a failure posted by another thread. */
export function errorFromData(data: ErrorData): ReidError {
  return new RemoteError(data);
}

/** A tensor or buffer whose shape is not the one asked for. */
export class ShapeError extends ReidError<{
  name: string;
  expected: string;
  received: string;
}> {
  readonly code = "SHAPE";
  readonly kind = "invalid-argument";

  constructor(name: string, expected: string, received: string) {
    super(
      `${name} must be ${expected} but is ${received}: pass a buffer of that shape`,
      { name, expected, received },
    );
  }
}

/** A setting, flag or configuration file that does not fit the schema. */
export class ConfigError extends ReidError<{
  field: string;
  received: string;
  expected: string;
}> {
  readonly code = "CONFIG_INVALID";
  readonly kind = "invalid-argument";

  constructor(field: string, received: string, expected: string) {
    super(`${field} is ${received}: expected ${expected}`, {
      field,
      received,
      expected,
    });
  }
}

/** A method was called on something that has been closed. */
export class ClosedError extends ReidError<{ what: string }> {
  readonly code = "CLOSED";
  readonly kind = "failed-precondition";

  constructor(what: string) {
    super(`${what} is closed: open it again before using it`, { what });
  }
}

/** A file could not be written because its disk fails, or has become read-only. */
export class DiskFailedError extends ReidError<{
  path: string;
  cause: string;
}> {
  readonly code = "DISK_FAILED";
  readonly kind = "failed-precondition";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `the disk does not take ${path} (${cause}): look at the disk, or write to another`,
      { path, cause },
      options,
    );
  }
}

/** A file could not be written because its disk is full, or the user's share of it. */
export class DiskFullError extends ReidError<{ path: string; cause: string }> {
  readonly code = "DISK_FULL";
  readonly kind = "resource-exhausted";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `the disk is full, ${path} was not written (${cause}): free space on that disk, or write to another`,
      { path, cause },
      options,
    );
  }
}

/** Fails on a mistake of ours, never of a user's. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** An invariant of this project does not hold: a bug. */
export class AssertionError extends ReidError {
  readonly code = "INTERNAL";
  readonly kind = "internal";

  constructor(message: string) {
    super(`invariant broken: ${message}`, {});
  }
}
