import { createHash } from "node:crypto";
import { access, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "./errors.js";
import { writeAtomically, writeFolderAtomically } from "./files.js";
import {
  BundleNotFoundError,
  ManifestError,
  ModelNameError,
} from "./manifest-errors.js";

/** A JSON value, for the parts of a manifest that only people and reports read. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** What a bundle's maker says of it. */
export interface BundleFacts {
  /** Crop size that the encoder takes. */
  readonly heightPx: number;
  readonly widthPx: number;
  /** D, length of the feature. */
  readonly dimension: number;
  /** Version under the same name it was made from; 0: none. */
  readonly parentVersion?: number;
  /** How it was trained or where it was imported from. */
  readonly training?: Json;
  /** Hexadecimal digest of the data it was trained on; empty: none. */
  readonly dataFingerprint?: string;
  /** Figures such as `mAP` and `rank-1`, in [0, 1]. */
  readonly metrics?: Readonly<Record<string, number>>;
}

/**
 * `manifest.json` of a bundle: docs/formats.md, "Model bundle".
 *
 * It holds no time and no path, so that the same training gives the same bytes.
 */
export interface Manifest extends Required<BundleFacts> {
  /** Version of this layout. */
  readonly format: 1;
  readonly name: string;
  /** From 1, rising; 0: a run's own bundle that was not published. */
  readonly version: number;
  /** SHA-256 of encoder.onnx, hexadecimal. */
  readonly sha256: string;
}

/** A bundle on disk, not yet read. */
export interface BundleEntry {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** A bundle with its encoder's bytes, whose digest has been checked. */
export interface Bundle extends BundleEntry {
  readonly encoder: Uint8Array;
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** @throws {ModelNameError} not 1 to 63 of the allowed characters */
export function checkModelName(name: string): string {
  if (!NAME.test(name)) throw new ModelNameError(name);
  return name;
}

/**
 * Reads a bundle and checks that the encoder is the one the manifest speaks of.
 *
 * @param folder  the bundle's own folder; see `resolveBundle` for looser paths
 * @throws {BundleNotFoundError} no manifest.json there
 * @throws {ManifestError}       fields missing or wrong, encoder missing, digest differs
 */
export async function readBundle(folder: string): Promise<Bundle> {
  const manifest = await readManifest(folder);
  const encoder = await readFile(join(folder, "encoder.onnx")).catch(
    (cause: unknown) => {
      throw new ManifestError(folder, "encoder.onnx cannot be read", { cause });
    },
  );
  const digest = sha256(encoder);
  if (digest !== manifest.sha256)
    throw new ManifestError(
      folder,
      `encoder.onnx has SHA-256 ${digest.slice(0, 12)}…, the manifest says ${manifest.sha256.slice(0, 12)}…`,
    );
  return { folder, manifest, encoder };
}

/**
 * Reads a bundle's manifest alone.
 *
 * @throws {BundleNotFoundError} no manifest.json there
 * @throws {ManifestError}       not JSON, or fields missing or wrong
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const text = await readFile(join(folder, "manifest.json"), "utf8").catch(
    (error: unknown) => {
      if (isMissing(error)) throw new BundleNotFoundError(folder);
      throw error;
    },
  );
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ManifestError(folder, "manifest.json is no JSON", { cause });
  }
  return parseManifest(value, folder);
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error &&
  "code" in error &&
  (error.code === "ENOENT" || error.code === "ENOTDIR");

function parseManifest(value: unknown, folder: string): Manifest {
  if (typeof value !== "object" || value === null)
    throw new ManifestError(folder, "manifest.json holds no object");
  const fields = value as Readonly<Record<string, unknown>>;
  const wrong = (name: string, expected: string): never => {
    const received = JSON.stringify(fields[name])?.slice(0, 60) ?? "missing";
    throw new ManifestError(
      folder,
      `${name} is ${received}, expected ${expected}`,
    );
  };
  const integer = (name: string, least: number): number => {
    const field = fields[name];
    return Number.isSafeInteger(field) && Number(field) >= least
      ? Number(field)
      : wrong(name, `an integer ≥ ${least}`);
  };
  const text = (name: string, pattern: RegExp): string => {
    const field = fields[name];
    return typeof field === "string" && pattern.test(field)
      ? field
      : wrong(name, String(pattern));
  };
  if (fields["format"] !== 1) wrong("format", "1");
  const metrics = fields["metrics"];
  if (
    typeof metrics !== "object" ||
    metrics === null ||
    !Object.values(metrics).every(Number.isFinite)
  )
    wrong("metrics", "numbers by name");
  return {
    format: 1,
    name: text("name", NAME),
    version: integer("version", 0),
    sha256: text("sha256", /^[0-9a-f]{64}$/),
    heightPx: integer("heightPx", 1),
    widthPx: integer("widthPx", 1),
    dimension: integer("dimension", 1),
    parentVersion: integer("parentVersion", 0),
    training: (fields["training"] ?? null) as Json,
    dataFingerprint: text("dataFingerprint", /^[0-9a-f]*$/),
    metrics: metrics as Readonly<Record<string, number>>,
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function manifestFrom(
  { name, version }: { readonly name: string; readonly version: number },
  encoder: Uint8Array,
  facts: BundleFacts,
): Manifest {
  return {
    format: 1,
    name: checkModelName(name),
    version,
    sha256: sha256(encoder),
    heightPx: facts.heightPx,
    widthPx: facts.widthPx,
    dimension: facts.dimension,
    parentVersion: facts.parentVersion ?? 0,
    training: facts.training ?? null,
    dataFingerprint: facts.dataFingerprint ?? "",
    metrics: facts.metrics ?? {},
  };
}

async function writeFiles(
  folder: string,
  manifest: Manifest,
  encoder: Uint8Array,
): Promise<void> {
  await writeFolderAtomically(folder, async (temporary) => {
    await writeAtomically(join(temporary, "encoder.onnx"), encoder);
    await writeAtomically(
      join(temporary, "manifest.json"),
      `${JSON.stringify(manifest, null, 2)}\n`,
    );
  });
}

/**
 * Publishes an encoder as the next version of a name: MODELS/NAME/VERSION.
 *
 * The folder is filled beside its place, flushed and renamed. Two writers at once get two versions.
 *
 * @param encoder  serveable: uint8 `image` to unit `feature`
 * @throws {ModelNameError}
 * @throws {ConfigError} MODELS or MODELS/NAME is no folder, or none that can be written
 */
export async function writeBundle(
  modelsFolder: string,
  name: string,
  encoder: Uint8Array,
  facts: BundleFacts,
): Promise<Bundle> {
  const home = join(modelsFolder, checkModelName(name));
  let version = (await versionsIn(home)).at(-1) ?? 0;
  for (;;) {
    version++;
    const folder = join(home, String(version));
    const manifest = manifestFrom({ name, version }, encoder, facts);
    try {
      await writeFiles(folder, manifest, encoder);
      return { folder, manifest, encoder };
    } catch (error) {
      // Somebody else took this number between the look and the rename.
      if (!isTaken(error)) throw error;
    }
  }
}

const isTaken = (error: unknown): boolean =>
  error instanceof Error &&
  "code" in error &&
  (error.code === "ENOTEMPTY" || error.code === "EEXIST");

/**
 * Writes a run's own bundle: version 0, replaced by the next export of the same run.
 *
 * @param folder  usually RUN/bundle; its parent is made where missing
 */
export async function writeBundleFolder(
  folder: string,
  name: string,
  encoder: Uint8Array,
  facts: BundleFacts,
): Promise<Bundle> {
  const manifest = manifestFrom({ name, version: 0 }, encoder, facts);
  await replaceFolder(folder, () => writeFiles(folder, manifest, encoder));
  return { folder, manifest, encoder };
}

/** Bundles are never changed in place: the old folder steps aside, and comes back if the new one fails. */
async function replaceFolder(
  folder: string,
  write: () => Promise<void>,
): Promise<void> {
  const aside = `${folder}.old`;
  await rm(aside, { recursive: true, force: true });
  const moved = await rename(folder, aside).then(
    () => true,
    (error: unknown) => {
      if (isMissing(error)) return false;
      throw error;
    },
  );
  try {
    await write();
  } catch (error) {
    if (moved) await rename(aside, folder);
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}

/**
 * The bundle's folder that a path given as `--model` means: itself, a run's `bundle/`, or a name's newest version.
 *
 * @throws {BundleNotFoundError} none of these
 */
export async function resolveBundle(path: string): Promise<string> {
  for (const folder of [path, join(path, "bundle")])
    if (await hasManifest(folder)) return folder;
  const newest = (await versionsIn(path)).at(-1);
  if (newest === undefined) throw new BundleNotFoundError(path);
  return join(path, String(newest));
}

async function hasManifest(folder: string): Promise<boolean> {
  return access(join(folder, "manifest.json")).then(
    () => true,
    () => false,
  );
}

/** Published versions under MODELS/NAME, rising. A folder that is missing has none. */
async function versionsIn(home: string): Promise<number[]> {
  const names = await readdir(home).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return names
    .filter((name) => /^[1-9]\d{0,8}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * Whether a folder of published bundles is there; the first that is published makes it.
 *
 * @throws {ConfigError} something else stands there
 */
export async function hasModelsFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (isMissing(error)) throw noModelsFolder(path, "no folder");
    throw error;
  });
  if (found?.isDirectory() === false) throw noModelsFolder(path, "no folder");
  return found !== undefined;
}

/** The models folder is not what it must be, as `what` says. */
export function noModelsFolder(path: string, what: string): ConfigError {
  return new ConfigError(
    "models folder",
    `${path}, which is ${what}`,
    "a folder of bundles, NAME/VERSION, as reid models import makes one",
  );
}

/**
 * All published bundles, by name, then version rising; encoders are not read. Broken ones are left out of
 * `bundles` and named in `broken`. Where there is no folder there are none: see `hasModelsFolder`.
 */
export async function listBundles(modelsFolder: string): Promise<{
  readonly bundles: readonly BundleEntry[];
  readonly broken: readonly {
    readonly folder: string;
    readonly error: ManifestError | BundleNotFoundError;
  }[];
}> {
  const names = await readdir(modelsFolder).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const bundles: BundleEntry[] = [];
  const broken: {
    folder: string;
    error: ManifestError | BundleNotFoundError;
  }[] = [];
  for (const name of names.filter((entry) => NAME.test(entry)).sort())
    for (const version of await versionsIn(join(modelsFolder, name))) {
      const folder = join(modelsFolder, name, String(version));
      try {
        const manifest = await readManifest(folder);
        bundles.push({ folder, manifest });
      } catch (error) {
        if (!(
          error instanceof ManifestError || error instanceof BundleNotFoundError
        ))
          throw error;
        broken.push({ folder, error });
      }
    }
  return { bundles, broken };
}
