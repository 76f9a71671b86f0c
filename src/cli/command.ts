import { ReidError } from "#core/errors";
import type { Clock } from "#core/clock";
import type { Output } from "./output.js";

/** A value that `--json` can print. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/** What a command gives back; printed as the last line on stdout under `--json`. */
export type JsonObject = { readonly [key: string]: JsonValue | undefined };

/** A command that did its work and failed by what it found: `--json` prints the result with the failure in it. */
export class FailedRun {
  readonly error: ReidError;
  readonly result: JsonObject;

  constructor(error: ReidError, result: JsonObject) {
    this.error = error;
    this.result = result;
  }
}

/** One flag of a command. */
export interface OptionSpec {
  readonly type: "string" | "boolean";
  readonly description: string;
  /** How the value is called in the help text, such as `DIR` or `N`. */
  readonly placeholder?: string;
  readonly default?: string | boolean;
  readonly short?: string;
  /** May be given more than once; its value is then a list. */
  readonly multiple?: boolean;
}

/** Flags as the shell gave them, defaults filled in. */
export type Flags = Readonly<
  Record<string, string | boolean | readonly (string | boolean)[] | undefined>
>;

/** What a command may use of the outside world. */
export interface CommandContext {
  readonly flags: Flags;
  readonly positionals: readonly string[];
  readonly out: Output;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
}

/** One `reid` command, or a group of them. */
export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** What follows the command's name, such as `--source DIR --target DIR [flags]`. */
  readonly usage: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Paths may stand beside the flags; elsewhere a word that is no flag is bad usage. */
  readonly takesPaths?: true;
  readonly subcommands?: Readonly<Record<string, Command>>;
  /** @returns what `--json` prints */
  run?(context: CommandContext): Promise<JsonObject | FailedRun | void>;
}

/** A command line that cannot be understood; the exit code is 2. */
export class UsageError extends ReidError<{ received: string }> {
  readonly code = "USAGE";
  readonly kind = "invalid-argument";

  constructor(message: string, received = "") {
    super(message, { received });
  }
}

/** The value of a flag, or undefined where it was not given. */
export function textFlag(flags: Flags, name: string): string | undefined {
  const value = flags[name];
  return typeof value === "string" ? value : undefined;
}

/**
 * The value of a flag that must be there.
 * @throws {UsageError} it is missing
 */
export function requiredFlag(flags: Flags, name: string): string {
  const value = textFlag(flags, name);
  if (value === undefined || value === "")
    throw new UsageError(
      `--${name} is missing: give it, or see --help`,
      `--${name}`,
    );
  return value;
}

/** Whether a boolean flag was given. */
export function hasFlag(flags: Flags, name: string): boolean {
  return flags[name] === true;
}

/** The values of a flag that may be repeated. */
export function listFlag(flags: Flags, name: string): readonly string[] {
  const value = flags[name];
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return [];
  return value.filter((item): item is string => typeof item === "string");
}

/** The range a number flag must lie in, ends included. */
export interface NumberRange {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly integer?: boolean;
}

/**
 * The number a flag holds, or undefined where it was not given.
 * @throws {UsageError} not a number, or out of range
 */
export function numberFlag(
  flags: Flags,
  name: string,
  range: NumberRange = {},
): number | undefined {
  const text = textFlag(flags, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  const { minimum = -Infinity, maximum = Infinity, integer = false } = range;
  const fits =
    text.trim() !== "" &&
    Number.isFinite(value) &&
    value >= minimum &&
    value <= maximum &&
    (!integer || Number.isInteger(value));
  if (fits) return value;
  const kind = integer ? "a whole number" : "a number";
  const from = minimum === -Infinity ? "" : ` from ${minimum}`;
  const bounds =
    maximum === Infinity ? from && `${from} upwards` : `${from} to ${maximum}`;
  throw new UsageError(
    `--${name} is "${text}": expected ${kind}${bounds}`,
    text,
  );
}

/**
 * The word a flag holds, one of a fixed list.
 * @throws {UsageError} it is another word
 */
export function choiceFlag<T extends string>(
  flags: Flags,
  name: string,
  choices: readonly T[],
): T | undefined {
  const text = textFlag(flags, name);
  if (text === undefined) return undefined;
  const found = choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  throw new UsageError(
    `--${name} is "${text}": expected ${choices.join(", ")}`,
    text,
  );
}
