import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Compiled to dist/test/support: the project's root is three folders up.
const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Folder of the reference's numbers: REID_GOLDEN, by default the copy in test/golden. */
export const goldenFolder =
  process.env["REID_GOLDEN"] ?? join(root, "test/golden");

/** Folder of real crops and encoders: REID_REAL, by default beside the project; may be missing. */
export const realFolder =
  process.env["REID_REAL"] ?? join(root, "../shared/real");

/**
 * The cases of a golden file by name, in the file's order; undefined where the folder has no such file.
 *
 * @typeParam Case  the form that test/golden/README.md describes; fields that a case may lack are optional in it
 */
export function goldenCases<Case>(
  file: string,
): ReadonlyMap<string, Case> | undefined {
  const path = join(goldenFolder, file);
  if (!existsSync(path)) return undefined;
  const cases = JSON.parse(readFileSync(path, "utf8")) as Record<string, Case>;
  return new Map(Object.entries(cases));
}

/** Why a test of a real file is skipped, or false where the file is there. */
export function realMissing(path: string): string | false {
  const full = join(realFolder, path);
  return existsSync(full) ? false : `${full} is missing: set REID_REAL`;
}
