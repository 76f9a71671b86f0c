import { z } from "zod";

/** What `docs/config.md` says of a key beside its default. */
export interface KeyFacts {
  /** `bytes`, `ms`, `px`, `crops` …; empty for words and shares. */
  readonly unit: string;
  readonly description: string;
}

/** A value as YAML and flags can write it. */
export type ConfigValue = string | number | boolean;

/** One key of a schema. */
export interface ConfigKey extends KeyFacts {
  /** Names from the root, camelCase. */
  readonly path: readonly string[];
  /** Undefined: decides itself. */
  readonly default: ConfigValue | undefined;
  /** `whole number from 1 to 64`, `auto, cpu`, `true or false` … */
  readonly expected: string;
  /** What was written there is not shown: it may be the secret itself. */
  readonly isSecret?: true;
}

/** A section whose keys all have to be known. */
export type Section<Shape extends z.ZodRawShape> = z.ZodObject<
  Shape,
  z.core.$strict
>;

/** What a section gives once a tree was checked against it. */
export type SectionOutput<T extends z.ZodType> = z.output<T>;

/** A problem found in a tree: where, and which keys are unknown there. */
export interface SchemaProblem {
  readonly path: readonly string[];
  readonly unknownKey?: string;
}

/** The largest whole number a setting may have. */
export const UNBOUNDED = Number.MAX_SAFE_INTEGER;

/** Unit and description of a key. */
export function facts(unit: string, description: string): KeyFacts {
  return { unit, description };
}

/** A whole number in [minimum, maximum]. */
export function whole(
  fallback: number,
  [minimum, maximum]: readonly [number, number],
  about: KeyFacts,
) {
  const type = z.int().min(minimum).max(maximum);
  return type.default(fallback).meta({ ...about });
}

/** A number in [minimum, maximum]. */
export function number(
  fallback: number,
  [minimum, maximum]: readonly [number, number],
  about: KeyFacts,
) {
  const type = z.number().min(minimum).max(maximum);
  return type.default(fallback).meta({ ...about });
}

/** One of a list of words. */
export function word<const Words extends readonly [string, ...string[]]>(
  words: Words,
  fallback: Words[number],
  description: string,
) {
  const type = z.enum(words);
  return type
    .default(fallback as z.output<typeof type>)
    .meta({ ...facts("", description) });
}

/** True or false. */
export function yesNo(fallback: boolean, description: string) {
  return z
    .boolean()
    .default(fallback)
    .meta({ ...facts("", description) });
}

/** A name, a path, an address. */
export function text(fallback: string, description: string) {
  return z
    .string()
    .default(fallback)
    .meta({ ...facts("", description) });
}

/** A whole number that decides itself where it is not given; the description says how. */
export function openWhole(
  [minimum, maximum]: readonly [number, number],
  about: KeyFacts,
) {
  return z
    .int()
    .min(minimum)
    .max(maximum)
    .optional()
    .meta({ ...about });
}

/** A number that decides itself where it is not given. */
export function openNumber(
  [minimum, maximum]: readonly [number, number],
  about: KeyFacts,
) {
  return z
    .number()
    .min(minimum)
    .max(maximum)
    .optional()
    .meta({ ...about });
}

/** A word that decides itself where it is not given. */
export function openWord<const Words extends readonly [string, ...string[]]>(
  words: Words,
  description: string,
) {
  return z
    .enum(words)
    .optional()
    .meta({ ...facts("", description) });
}

/** A text that decides itself where it is not given. */
export function openText(description: string) {
  return z
    .string()
    .min(1)
    .optional()
    .meta({ ...facts("", description) });
}

/** A text of one form, in words `expected`; it has to be given. */
export function pattern(form: RegExp, expected: string, description: string) {
  return z
    .string()
    .regex(form)
    .meta({ ...facts("", description), expected });
}

/** The same where it may be left out. */
export function openPattern(
  form: RegExp,
  expected: string,
  description: string,
) {
  return pattern(form, expected, description).optional();
}

/** A SHA-256 in hexadecimal digits; what stands in its place is never shown. */
export function openDigest(description: string) {
  return z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .meta({
      ...facts("", description),
      expected: "64 hexadecimal digits in lower case",
      isSecret: true,
    })
    .optional();
}

/** One of a list of words; it has to be given. */
export function requiredWord<
  const Words extends readonly [string, ...string[]],
>(words: Words, description: string) {
  return z.enum(words).meta({ ...facts("", description) });
}

/** An instant in UTC or with an offset, ISO 8601; it may be left out. */
export function openInstant(description: string) {
  return z.iso
    .datetime({ offset: true })
    .optional()
    .meta({
      ...facts("", description),
      expected: "time like 2030-01-31T12:00:00Z",
    });
}

/** Texts of one form, at most `maximum`; the list may be left out. */
export function openTexts(
  form: RegExp,
  maximum: number,
  about: { readonly expected: string; readonly description: string },
) {
  return z
    .array(z.string().regex(form))
    .max(maximum)
    .optional()
    .meta({ ...facts("", about.description), expected: about.expected });
}

/** Sections of one form, at most `maximum`; left out, there are none. */
export function list<Shape extends z.ZodRawShape>(
  item: Section<Shape>,
  maximum: number,
  description: string,
) {
  return z
    .array(item)
    .max(maximum)
    .default([])
    .meta({
      ...facts("", description),
      expected: `list of at most ${maximum} sections`,
    });
}

/** Keys that belong together. */
export function section<Shape extends z.ZodRawShape>(
  shape: Shape,
): Section<Shape> {
  return z.strictObject(shape);
}

/** A section within a section; left out, it holds its defaults. */
export function nested<Shape extends z.ZodRawShape>(shape: Shape) {
  const type = z.strictObject(shape);
  return type.prefault({} as z.input<typeof type>);
}

/** Checks a tree; gives the values with defaults filled in, or the first problem. */
export function check<T extends z.ZodType>(
  schema: T,
  tree: unknown,
): { readonly value: z.output<T> } | { readonly problem: SchemaProblem } {
  const parsed = schema.safeParse(tree);
  if (parsed.success) return { value: parsed.data };
  const [issue] = parsed.error.issues;
  const path = issue.path.map(String);
  return {
    problem:
      issue.code === "unrecognized_keys"
        ? { path, unknownKey: issue.keys[0] ?? "" }
        : { path },
  };
}

/**
 * Every key of a section with default, range and unit, in the schema's order.
 *
 * The keys of a list's sections follow the list, under its name with `[]`.
 */
export function keysOf(
  schema: z.ZodObject,
  above: readonly string[] = [],
): ConfigKey[] {
  return Object.entries(schema.shape).flatMap(([name, type]) => {
    const path = [...above, name];
    const inner = unwrap(type);
    if (inner instanceof z.ZodObject) return keysOf(inner, path);
    const about = aboutOf(type);
    const key = {
      path,
      default: defaultOf(type),
      expected: String(about["expected"] ?? expectedOf(inner)),
      unit: String(about["unit"] ?? ""),
      description: String(about["description"] ?? ""),
      ...(about["isSecret"] === true ? { isSecret: true as const } : {}),
    };
    return inner instanceof z.ZodArray && inner.element instanceof z.ZodObject
      ? [key, ...keysOf(inner.element, [...above, `${name}[]`])]
      : [key];
  });
}

/** What a key's type says of it; an optional one may say it inside. */
function aboutOf(type: unknown): Readonly<Record<string, unknown>> {
  const about = z.globalRegistry.get(type as z.ZodType);
  if (about !== undefined) return about;
  return type instanceof z.ZodOptional ? aboutOf(type.unwrap()) : {};
}

function unwrap(type: unknown): unknown {
  const isWrapper =
    type instanceof z.ZodDefault ||
    type instanceof z.ZodPrefault ||
    type instanceof z.ZodOptional;
  return isWrapper ? unwrap(type.unwrap()) : type;
}

function defaultOf(type: unknown): ConfigValue | undefined {
  if (!(type instanceof z.ZodDefault)) return undefined;
  const value: unknown = type.def.defaultValue;
  return isValue(value) ? value : undefined;
}

function expectedOf(type: unknown): string {
  if (type instanceof z.ZodEnum) return type.options.join(", ");
  if (type instanceof z.ZodBoolean) return "true or false";
  if (!(type instanceof z.ZodNumber)) return "text";
  const kind = type.format === "safeint" ? "whole number" : "number";
  const bound =
    type.maxValue === UNBOUNDED ? "upwards" : `to ${String(type.maxValue)}`;
  return `${kind} from ${String(type.minValue)} ${bound}`;
}

function isValue(value: unknown): value is ConfigValue {
  return ["string", "number", "boolean"].includes(typeof value);
}
