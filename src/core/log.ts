import pino from "pino";

/** Least severity that is logged. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** Values beside a log line; no pixel data, no feature, no secret. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where log lines go. A line says what happened; its fields say to what. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose every line has these fields too. */
  child(fields: LogFields): Log;
}

/** How a log is made. */
export interface LogOptions {
  readonly level?: LogLevel;
  /** Where lines go, one JSON object each. Default: stderr; stdout belongs to `--json`. */
  readonly write?: (line: string) => void;
}

/** A log of JSON lines with `time` (ISO 8601, UTC), `level` and `msg`. */
export function createLog(options: LogOptions = {}): Log {
  const { level = "info", write } = options;
  const settings: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { error: serializeError },
  };
  const destination =
    write === undefined
      ? standardError()
      : { write: (line: string) => write(line) };
  return wrap(pino(settings, destination));
}

/** Lines that cannot be written, where stderr is a file on a full disk, are dropped: the work goes on. */
function standardError(): pino.DestinationStream {
  const destination = pino.destination({ fd: 2, sync: true });
  destination.on("error", () => undefined);
  return destination;
}

/** A log that says nothing. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

function wrap(logger: pino.Logger): Log {
  return {
    debug: (message, fields = {}) => logger.debug(fields, message),
    info: (message, fields = {}) => logger.info(fields, message),
    warn: (message, fields = {}) => logger.warn(fields, message),
    error: (message, fields = {}) => logger.error(fields, message),
    child: (fields) => wrap(logger.child(fields)),
  };
}

/** Class, code, message, stack and the causes below it. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const code = (error as { code?: unknown }).code;
  return {
    name: error.name,
    ...(typeof code === "string" ? { code } : {}),
    message: error.message,
    stack: error.stack,
    ...(error.cause === undefined
      ? {}
      : { cause: serializeError(error.cause) }),
  };
}
