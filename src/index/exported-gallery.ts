import { refuseNewer } from "#core/format";

import { ExportFormatError } from "./errors.js";
import type { Gallery } from "./gallery.js";
import type { GallerySpec } from "./gallery-types.js";
import { indexKinds } from "./index-kinds.js";

/** Version of what an export says of its gallery (docs/formats.md). */
const formatVersion = 1;

/** What an export says of a gallery: all that another like it is made with. JSON, one line. */
export function galleryJson(gallery: Gallery): string {
  const { name, model, modelPolicy, dimension, index, autoIndex, ...rest } =
    gallery.describe();
  const { cropRetention, defaultTtlMs, maxEntries, tags } = rest;
  return JSON.stringify({
    ...{ formatVersion, name, model, modelPolicy, dimension },
    index: autoIndex === true ? "auto" : index,
    ...{ cropRetention, defaultTtlMs, maxEntries, tags },
  });
}

function isWhole(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) > 0;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** Whether a field is what it has to be; those that may be left out are asked only where they are there. */
const required: Readonly<
  Record<"name" | "model" | "dimension", (value: unknown) => boolean>
> = {
  name: (value) => typeof value === "string" && value !== "",
  model: (value) =>
    isObject(value) &&
    typeof value["name"] === "string" &&
    isWhole(value["version"]),
  dimension: isWhole,
};
const optional: Readonly<
  Record<
    Exclude<keyof GallerySpec, keyof typeof required>,
    (value: unknown) => boolean
  >
> = {
  modelPolicy: (value) => value === "pinned" || value === "follow-active",
  index: (value) =>
    value === "auto" ||
    (isObject(value) && Object.hasOwn(indexKinds, String(value["kind"]))),
  cropRetention: (value) => value === "none" || value === "keep",
  defaultTtlMs: isWhole,
  maxEntries: isWhole,
  tags: (value) =>
    isObject(value) &&
    Object.values(value).every((text) => typeof text === "string"),
};

/**
 * Reads what {@link galleryJson} wrote.
 *
 * @param path   of the export, for messages
 * @param where  what in it the text is, for messages
 * @throws {ExportFormatError} it is not of that format @throws {FormatNewerError} it is of a later one
 */
export function parseGallery(
  path: string,
  text: string,
  where: string,
): GallerySpec {
  let facts: unknown;
  try {
    facts = JSON.parse(text);
  } catch (error) {
    throw new ExportFormatError(path, `${where} is no JSON`, { cause: error });
  }
  const format = isObject(facts) ? facts["formatVersion"] : undefined;
  refuseNewer(path, format, formatVersion);
  if (!isObject(facts) || format !== formatVersion)
    throw new ExportFormatError(
      path,
      `${where} is not of format ${formatVersion}`,
    );
  const spec: Record<string, unknown> = {};
  for (const [name, fits] of Object.entries({ ...required, ...optional })) {
    const value = facts[name];
    if (value === undefined && Object.hasOwn(optional, name)) continue;
    if (!fits(value))
      throw new ExportFormatError(
        path,
        `${where} has ${name} ${JSON.stringify(value) ?? "left out"}`,
      );
    spec[name] = value;
  }
  return spec as unknown as GallerySpec;
}
