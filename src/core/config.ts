import { readFile } from "node:fs/promises";
import { isMap, isSeq, parseDocument } from "yaml";
import { principalsFile, type PrincipalSettings } from "./config-auth.js";
import {
  check,
  keysOf,
  type ConfigValue,
  type SchemaProblem,
} from "./config-fields.js";
import { configSchema, type Config } from "./config-schema.js";
import { ConfigError } from "./errors.js";

export type { AuthSettings, PrincipalSettings } from "./config-auth.js";
export type { Config, TlsSettings } from "./config-schema.js";
export type { ConfigValue } from "./config-fields.js";

/** Values by dotted snake_case path, such as `serve.listen`. */
export type ConfigOverrides = Readonly<Record<string, ConfigValue | undefined>>;

/** A tree of sections with snake_case keys, as files write it. */
export type ConfigTree = { [key: string]: unknown };

/** Where a configuration comes from; later ones win. */
export interface ConfigSources {
  /** YAML file. Default: the one `REID_CONFIG` names; if neither is given, none. */
  readonly file?: string | undefined;
  /** The process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** What flags say. */
  readonly overrides?: ConfigOverrides;
}

/**
 * The effective configuration: flags before the file before the defaults.
 *
 * @throws {ConfigError} the file cannot be read or parsed, a key is unknown, or a value does not fit
 */
export async function loadConfig(sources: ConfigSources = {}): Promise<Config> {
  const file = sources.file ?? sources.environment?.["REID_CONFIG"];
  const tree: ConfigTree =
    file === undefined || file === "" ? {} : await readYaml(file);
  for (const [path, value] of Object.entries(sources.overrides ?? {}))
    if (value !== undefined) setAt(tree, path, value);
  return parseConfig(tree);
}

/**
 * Checks a tree with snake_case keys against the schema and fills in the defaults.
 *
 * @throws {ConfigError} naming the first key that does not fit
 */
export function parseConfig(tree: unknown): Config {
  const checked = check(configSchema, renameKeys(tree, camelFromSnake));
  if ("value" in checked) return checked.value;
  throw errorFromProblem(checked.problem, tree, configKeys());
}

/**
 * The principals of the file that `auth.file` names: a YAML file with one key, `principals`.
 *
 * @throws {ConfigError} the file cannot be read or parsed, or a principal does not fit
 */
export async function readPrincipals(
  file: string,
): Promise<readonly PrincipalSettings[]> {
  const tree = await readYaml(file);
  const checked = check(principalsFile, renameKeys(tree, camelFromSnake));
  if ("value" in checked) return checked.value.principals;
  const keys = writtenKeys(keysOf(principalsFile));
  const { facts } = errorFromProblem(checked.problem, tree, keys);
  const { field, received, expected } = facts;
  throw new ConfigError(`${field} in ${file}`, received, expected);
}

/** The configuration as files write it: a tree with snake_case keys. */
export function treeFromConfig(config: Config): ConfigTree {
  return renameKeys(config, snakeFromCamel) as ConfigTree;
}

/** One key of the configuration. */
export interface ConfigKey {
  /** Dotted, snake_case. */
  readonly path: string;
  /** Undefined: decides itself. */
  readonly default: ConfigValue | undefined;
  /** `whole number from 1 to 64`, `auto, cpu`, `true or false` … */
  readonly expected: string;
  /** `bytes`, `ms`, `px` …; empty for words and shares. */
  readonly unit: string;
  readonly description: string;
  /** What was written there is not shown: it may be the secret itself. */
  readonly isSecret?: true;
}

/** Every key with default, range and unit, in the schema's order. */
export function configKeys(): readonly ConfigKey[] {
  return writtenKeys(keysOf(configSchema));
}

/** Keys by the paths that files write. */
function writtenKeys(keys: ReturnType<typeof keysOf>): readonly ConfigKey[] {
  return keys.map((key) => ({
    ...key,
    path: key.path.map(snakeFromCamel).join("."),
  }));
}

async function readYaml(file: string): Promise<ConfigTree> {
  let source: string;
  try {
    source = await readFile(file, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError(
      "config file",
      `${file} (${code})`,
      "a readable YAML file",
    );
  }
  const document = parseDocument(source, { uniqueKeys: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const line = problem.message.split("\n")[0] ?? "";
    throw new ConfigError(`config file ${file}`, line, "valid YAML");
  }
  if (document.contents === null) return {};
  if (!isMap(document.contents))
    throw new ConfigError(
      `config file ${file}`,
      isSeq(document.contents) ? "a list" : "a single value",
      "sections with keys, see docs/config.md",
    );
  return document.toJS() as ConfigTree;
}

function setAt(tree: ConfigTree, path: string, value: ConfigValue): void {
  const names = path.split(".");
  const last = names.pop() ?? "";
  let at = tree;
  for (const name of names) {
    const below = at[name];
    const next = isTree(below) ? { ...below } : {};
    at[name] = next;
    at = next;
  }
  at[last] = value;
}

function errorFromProblem(
  problem: SchemaProblem,
  tree: unknown,
  keys: readonly ConfigKey[],
): ConfigError {
  const path = problem.path.map(snakeFromCamel);
  const field = showPath(path);
  if (problem.unknownKey !== undefined) {
    const written = problem.unknownKey.endsWith("?")
      ? problem.unknownKey.slice(0, -1)
      : snakeFromCamel(problem.unknownKey);
    const unknown = showPath([...path, written]);
    const section = field === "" ? "" : `${keyOf(field)}.`;
    const known = keys
      .map((key) => key.path)
      .filter((one) => one.startsWith(section));
    return new ConfigError(
      unknown,
      "an unknown key",
      `one of ${nearest(keyOf(unknown), known).join(", ")}`,
    );
  }
  const received = JSON.stringify(valueAt(tree, path)) as string | undefined;
  const key = keyFor(keys, keyOf(field));
  return new ConfigError(
    field === "" ? "configuration" : field,
    key?.isSecret === true ? "of another form" : (received ?? "missing"),
    key?.expected ?? "a section with keys",
  );
}

/** The key that says what a path takes; of an item of a list of texts, the list. */
function keyFor(
  keys: readonly ConfigKey[],
  path: string,
): ConfigKey | undefined {
  const list = path.endsWith("[]") ? path.slice(0, -2) : path;
  const isSections = keys.some((key) => key.path.startsWith(`${list}[].`));
  return keys.find(
    (key) => key.path === (list === path || isSections ? path : list),
  );
}

/** `auth.principals[2].role`. */
function showPath(path: readonly string[]): string {
  return path.join(".").replaceAll(/\.(\d+)(?=\.|$)/g, "[$1]");
}

/** The key of a path: `auth.principals[].role`. */
function keyOf(path: string): string {
  return path.replaceAll(/\[\d+\]/g, "[]");
}

function valueAt(tree: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, name) =>
      Array.isArray(at) ? at[Number(name)] : isTree(at) ? at[name] : undefined,
    tree,
  );
}

/** The five keys that share the longest beginning with what was written. */
function nearest(received: string, known: readonly string[]): string[] {
  const shared = (key: string) => {
    let i = 0;
    while (i < key.length && key[i] === received[i]) i++;
    return i;
  };
  return [...known].sort((a, b) => shared(b) - shared(a)).slice(0, 5);
}

function renameKeys(value: unknown, rename: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((one) => renameKeys(one, rename));
  if (!isTree(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, below]) => [
      rename(key),
      renameKeys(below, rename),
    ]),
  );
}

function camelFromSnake(key: string): string {
  // A key in capitals or camelCase is left wrong, so that the schema refuses it: one spelling per key.
  if (/[A-Z]/.test(key)) return `${key}?`;
  return key.replace(/_([a-z0-9])/g, (_, letter: string) =>
    letter.toUpperCase(),
  );
}

function snakeFromCamel(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function isTree(value: unknown): value is ConfigTree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
