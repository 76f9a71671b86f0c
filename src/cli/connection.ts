import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ReidError } from "#core/errors";
import { dataFormats } from "#train/data-sets";
import { connect, type Client } from "./client.js";
import { securityOf, securityOptions } from "./client-security.js";
import { textFlag, UsageError, type CommandContext } from "./command.js";
import type { LabelledCrop } from "./retrieval.js";

/** A crop file or folder that the command line names and that is not there. */
export class CropFileNotFoundError extends ReidError<{ path: string }> {
  readonly code = "CROP_FILE_NOT_FOUND";
  readonly kind = "not-found";

  constructor(path: string, options?: ErrorOptions) {
    super(
      `there is no file or folder ${path}: give image files or a folder of them`,
      { path },
      options,
    );
  }
}

/** A folder named for its crops that holds no image file. */
export class CropFolderEmptyError extends ReidError<{
  path: string;
  files: number;
}> {
  readonly code = "CROP_FOLDER_EMPTY";
  readonly kind = "not-found";

  constructor(path: string, files: number) {
    super(
      `folder ${path} holds ${files} files and no .jpg, .jpeg, .png or .webp: give a folder that has crops in it`,
      { path, files },
    );
  }
}

/** Crops of which the server took none. */
export class CropsRefusedError extends ReidError<{
  crops: number;
  reasons: string;
}> {
  readonly code = "CROPS_REFUSED";
  readonly kind = "failed-precondition";

  /**
   * @param verb     what was to be done with them, as a participle
   * @param reasons  of the single crops
   */
  constructor(verb: string, reasons: readonly string[]) {
    const crops = reasons.length;
    const all = [...new Set(reasons)].sort().join(", ");
    super(
      `none of ${crops} crops could be ${verb} (${all}): see each one's reason in the output, and give others`,
      { crops, reasons: all },
    );
  }
}

/** How long a server may take to answer at all. */
const CONNECT_MS = 10_000;
const IMAGE = /\.(jpe?g|png|webp)$/i;

/** The flags of every command that talks to a server. */
export const connectionOptions = {
  address: {
    type: "string",
    placeholder: "HOST:PORT",
    description: "the server",
    default: "127.0.0.1:50051",
  },
  ...securityOptions,
} as const;

/** Runs work on a connection to the server that `--address` names, and closes it. */
export function withClient<Result>(
  context: CommandContext,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  const { address } = connectionOptions;
  return withClientAt(
    textFlag(context.flags, "address") ?? address.default,
    context,
    work,
  );
}

/** The same on a connection to another server. @param address  HOST:PORT */
export async function withClientAt<Result>(
  address: string,
  context: Pick<CommandContext, "flags" | "environment">,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  const client = connect(address, await securityOf(context));
  try {
    await client.ready(CONNECT_MS);
    return await work(client);
  } finally {
    client.close();
  }
}

/** One part of a folder in Market-1501 layout, identities and cameras from its file names. */
export async function labelledCrops(
  folder: string,
  split: "query" | "gallery" | "train",
): Promise<readonly LabelledCrop[]> {
  const data = await dataFormats.market1501(folder, {
    skipBad: false,
    splits: [split],
  });
  return data[split].map(({ path, identity, cameraId }) => ({
    path,
    identity: String(identity),
    cameraId: String(cameraId),
  }));
}

/**
 * Crop files that the command line names: files as they are, folders by the images in them, sorted.
 *
 * @throws {UsageError} none is named
 * @throws {CropFileNotFoundError} one is not there
 * @throws {CropFolderEmptyError} a folder has no image in it
 */
export async function cropFiles(
  paths: readonly string[],
): Promise<readonly string[]> {
  if (paths.length === 0)
    throw new UsageError("no crops are named: give image files or a folder");
  const files: string[] = [];
  for (const path of paths) {
    const found = await stat(path).catch((cause: unknown) => {
      throw new CropFileNotFoundError(path, { cause });
    });
    if (found.isDirectory()) {
      const all = await readdir(path);
      const names = all.filter((name) => IMAGE.test(name));
      if (names.length === 0) throw new CropFolderEmptyError(path, all.length);
      files.push(...names.sort().map((name) => join(path, name)));
    } else files.push(path);
  }
  return files;
}

/** The model that `--model` names; null where it is not given. @throws {UsageError} */
export function modelFromFlag(
  text: string | undefined,
): { readonly name: string; readonly version: number } | null {
  if (text === undefined) return null;
  const [name, version = "0"] = text.split("/");
  const number = Number(version);
  if (!Number.isInteger(number) || number < 0)
    throw new UsageError(
      `--model is "${text}": expected NAME or NAME/VERSION`,
      text,
    );
  return { name, version: number };
}
