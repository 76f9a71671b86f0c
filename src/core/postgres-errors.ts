import { ReidError } from "./errors.js";

/** An optional package that a setting asks for is not installed. */
export class PackageMissingError extends ReidError<{
  package: string;
  setting: string;
}> {
  readonly code = "PACKAGE_MISSING";
  readonly kind = "failed-precondition";

  /** @param setting  what asks for it, such as `store.engine: postgres` */
  constructor(name: string, setting: string, options?: ErrorOptions) {
    super(
      `${setting} needs the package ${name}, which is not installed: npm install ${name}`,
      { package: name, setting },
      options,
    );
  }
}

/** PostgreSQL cannot be reached, or ended the connection. */
export class DatabaseUnavailableError extends ReidError<{ cause: string }> {
  readonly code = "DATABASE_UNAVAILABLE";
  readonly kind = "unavailable";

  constructor(cause: string, options?: ErrorOptions) {
    super(
      `PostgreSQL does not answer (${cause}): check store.postgres and the server behind it`,
      { cause },
      options,
    );
  }
}

/** PostgreSQL answered with an error that is no fault of the caller's. */
export class DatabaseFailedError extends ReidError<{
  cause: string;
  state: string;
}> {
  readonly code = "DATABASE_FAILED";
  readonly kind = "internal";

  /** @param state  PostgreSQL's SQLSTATE */
  constructor(cause: string, state: string, options?: ErrorOptions) {
    super(
      `PostgreSQL refused a statement (${state}: ${cause}): see its log, and whether the schema is this version's`,
      { cause, state },
      options,
    );
  }
}
