import { createHash } from "node:crypto";
import { basename } from "node:path";
import type { CropLoader, CropSet } from "./crops.js";
import type { CropRef, SkippedFile } from "./data/data-set.js";
import { DataSetLayoutError } from "./errors.js";

/** One domain's training crops, checked and known to the loader. */
export interface DomainCrops {
  readonly set: CropSet;
  readonly crops: readonly CropRef[];
  /** int32 [N]. */
  readonly cameras: Int32Array;
  /** int32 [N]: identities relabelled 0 … S − 1 in ascending order (spcl-spec 8). */
  readonly classes: Int32Array;
  /** S. */
  readonly classCount: number;
  /** SHA-256 over file names and identities, hexadecimal: which data, not where it lies. */
  readonly fingerprint: string;
}

/**
 * Decodes every crop once and makes the list known to the loader.
 *
 * @param skipped  with a list, crops that cannot be decoded are left out and added to it
 * @throws {DataSetLayoutError} a crop cannot be decoded and there is no list, or none can be
 */
export async function openDomain(
  loader: CropLoader,
  crops: readonly CropRef[],
  skipped: SkippedFile[] | undefined,
): Promise<DomainCrops> {
  const set = loader.add(crops);
  const failures = await loader.check(set);
  if (failures.length === 0) return describe(set, crops);
  const first = failures[0];
  if (skipped === undefined || failures.length === crops.length)
    throw new DataSetLayoutError(
      crops[first.crop].path,
      "a crop that can be decoded",
      first.reason,
      "replace or remove it, or leave such files out with --skip-bad",
    );
  for (const { crop, reason } of failures)
    skipped.push({ path: crops[crop].path, reason });
  const bad = new Set(failures.map(({ crop }) => crop));
  const rest = crops.filter((_, crop) => !bad.has(crop));
  loader.drop(set);
  return describe(loader.add(rest), rest);
}

function describe(set: CropSet, crops: readonly CropRef[]): DomainCrops {
  const identities = [...new Set(crops.map(({ identity }) => identity))];
  identities.sort((a, b) => a - b);
  const classOf = new Map(identities.map((identity, at) => [identity, at]));
  const digest = createHash("sha256");
  for (const { path, identity, cameraId } of crops)
    digest.update(`${basename(path)}\t${identity}\t${cameraId}\n`);
  return {
    set,
    crops,
    cameras: Int32Array.from(crops, ({ cameraId }) => cameraId),
    classes: Int32Array.from(
      crops,
      ({ identity }) => classOf.get(identity) ?? 0,
    ),
    classCount: identities.length,
    fingerprint: digest.digest("hex"),
  };
}
