import { readdir, readFile } from "node:fs/promises";
import { basename, extname, join, resolve, sep } from "node:path";
import { DataSetLayoutError } from "../errors.js";
import type {
  CropRef,
  DataSet,
  ReadOptions,
  SkippedFile,
  Split,
} from "./data-set.js";

/** Folder of each split. */
const folders: Readonly<Record<Split, string>> = {
  train: "bounding_box_train",
  query: "query",
  gallery: "bounding_box_test",
};

/** Cameras of the data set as published; a folder with more says so in `layout.json`. */
const PUBLISHED_CAMERAS = 6;

/** Identity of detections that show nobody in particular; never loaded. */
const JUNK = -1;

/** Identity, camera id; more digits than the one of the published names, so that camera 12 is not read as 1. */
const FILE_NAME = /^(-?\d+)_c(\d+)/;

const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set([
  ".jpg",
  ".jpeg",
  ".png",
  ".webp",
]);

/** What file managers and packers leave beside the images (the published archive holds a Thumbs.db). */
const BYSTANDERS =
  /^(\.|thumbs\.db$|desktop\.ini$|.*\.(txt|md|csv|json|mat)$)/i;

/**
 * Reads a folder in Market-1501 layout: bounding_box_train, query and bounding_box_test, files named
 * `<identity>_c<camera>…`. Crops come in the byte order of their paths; identity −1 (junk) is left out,
 * identity 0 (a distractor) stays.
 *
 * Cameras are 1 to 6; a `layout.json` beside the folders with `{"cameras": N}` widens that to 1 to N.
 *
 * Source: Zheng et al. 2015, doi:10.1109/ICCV.2015.133; names as in yxgeee/SpCL spcl/datasets/market1501.py.
 *
 * @throws {DataSetLayoutError} a folder is missing or holds no crop, a file name does not parse, a camera is
 *         out of range (without `skipBad`), or the folder is DukeMTMC-reID or derived from it
 */
export async function readMarket1501(
  folder: string,
  options: ReadOptions,
): Promise<DataSet> {
  refuseDukeMtmc(folder);
  const cameras = await camerasOf(folder);
  const skipped: SkippedFile[] = [];
  const read = async (split: Split): Promise<readonly CropRef[]> =>
    options.splits.includes(split)
      ? readSplit(join(folder, folders[split]), {
          cameras,
          skipBad: options.skipBad,
          skipped,
        })
      : [];
  return {
    train: await read("train"),
    query: await read("query"),
    gallery: await read("gallery"),
    skipped,
  };
}

/** Retracted by its authors; so are the sets made from it. */
function refuseDukeMtmc(folder: string): void {
  const parts = resolve(folder).split(sep);
  const isDuke =
    /duke/i.test(basename(resolve(folder))) ||
    parts.some((part) => /duke[-_ ]?mtmc/i.test(part));
  if (isDuke) throw refusal(folder);
}

function refusal(path: string): DataSetLayoutError {
  return new DataSetLayoutError(
    path,
    "a data set that is still published",
    "DukeMTMC-reID or derived from it",
    "its authors retracted it; use another data set",
  );
}

async function camerasOf(folder: string): Promise<number> {
  const path = join(folder, "layout.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return PUBLISHED_CAMERAS;
    throw error;
  }
  const cameras = parseCameras(text);
  if (cameras !== undefined) return cameras;
  throw new DataSetLayoutError(
    path,
    '{"cameras": N} with N from 1 to 10000',
    "something else",
    "correct or remove it",
  );
}

function parseCameras(text: string): number | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null) return undefined;
    if (!("cameras" in parsed)) return PUBLISHED_CAMERAS;
    const { cameras } = parsed;
    return typeof cameras === "number" &&
      Number.isInteger(cameras) &&
      cameras >= 1 &&
      cameras <= 10_000
      ? cameras
      : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** How the files of one folder are read. */
interface SplitOptions {
  readonly cameras: number;
  readonly skipBad: boolean;
  /** Files left out are added here. */
  readonly skipped: SkippedFile[];
}

async function readSplit(
  folder: string,
  options: SplitOptions,
): Promise<readonly CropRef[]> {
  const names = await namesOf(folder);
  const crops: CropRef[] = [];
  let junk = 0;
  for (const name of names) {
    const path = join(folder, name);
    const parsed = parseName(path, name, options.cameras);
    if (parsed instanceof DataSetLayoutError) {
      if (!options.skipBad) throw parsed;
      options.skipped.push({ path, reason: parsed.message });
    } else if (parsed.identity === JUNK) junk++;
    else crops.push(parsed);
  }
  if (crops.length > 0) return crops;
  const received =
    names.length === 0
      ? "empty"
      : `without a usable crop (${junk} junk, ${names.length - junk} skipped)`;
  throw new DataSetLayoutError(
    folder,
    "a folder with crops named like 0002_c1s1_000451_03.jpg",
    received,
    "check the path and the layout",
  );
}

async function namesOf(folder: string): Promise<readonly string[]> {
  try {
    const names = await readdir(folder);
    return names
      .filter((name) => !BYSTANDERS.test(name))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw new DataSetLayoutError(
      folder,
      "a folder of crops",
      "missing",
      "give the folder that holds bounding_box_train, query and bounding_box_test",
    );
  }
}

function isMissing(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    (error.code === "ENOENT" || error.code === "ENOTDIR")
  );
}

function parseName(
  path: string,
  name: string,
  cameras: number,
): CropRef | DataSetLayoutError {
  if (/^\d{4}_c\d_f\d{7}\./.test(name)) return refusal(path);
  if (!IMAGE_EXTENSIONS.has(extname(name).toLowerCase()))
    return new DataSetLayoutError(
      path,
      "a .jpg, .jpeg, .png or .webp file",
      `a file ending in "${extname(name)}"`,
      "remove it, or leave such files out with --skip-bad",
    );
  const match = FILE_NAME.exec(name);
  const identity = Number(match?.[1]);
  const cameraId = Number(match?.[2]);
  if (match === null || identity < JUNK)
    return new DataSetLayoutError(
      path,
      "named <identity>_c<camera>…, such as 0002_c1s1_000451_03.jpg",
      "named otherwise",
      "rename it, or leave such files out with --skip-bad",
    );
  if (identity !== JUNK && (cameraId < 1 || cameraId > cameras))
    return new DataSetLayoutError(
      path,
      `of a camera from 1 to ${cameras}`,
      `of camera ${cameraId}`,
      'rename it, write {"cameras": N} into layout.json beside the folders, or leave such files out with --skip-bad',
    );
  return { path, identity, cameraId };
}
