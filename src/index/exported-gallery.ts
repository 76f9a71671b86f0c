import { refuseNewer } from "#core/format";

import { ExportFormatError } from "./errors.js";
import type { Gallery } from "./gallery.js";
import type { GallerySpec } from "./gallery-types.js";
import { indexKinds } from "./index-kinds.js";
import {
  isCropRetention,
  isModelPolicy,
  isName,
  isObject,
  isPositive,
  isText,
  isTexts,
} from "./record-fields.js";

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

/** Whether a field is what it has to be; those that may be left out are asked only where they are there. */
const required: Readonly<
  Record<"name" | "model" | "dimension", (value: unknown) => boolean>
> = {
  name: isName,
  model: (value) =>
    isObject(value) && isText(value["name"]) && isPositive(value["version"]),
  dimension: isPositive,
};
const optional: Readonly<
  Record<
    Exclude<keyof GallerySpec, keyof typeof required>,
    (value: unknown) => boolean
  >
> = {
  modelPolicy: isModelPolicy,
  index: (value) =>
    value === "auto" ||
    (isObject(value) && Object.hasOwn(indexKinds, String(value["kind"]))),
  cropRetention: isCropRetention,
  defaultTtlMs: isPositive,
  maxEntries: isPositive,
  tags: isTexts,
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
