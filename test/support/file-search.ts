import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Which of the wanted bytes are in any file of a folder. */
export async function foundIn(
  folder: string,
  wanted: Readonly<Record<string, Uint8Array>>,
): Promise<readonly string[]> {
  const found = new Set<string>();
  const entries = await readdir(folder, {
    recursive: true,
    withFileTypes: true,
  });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const bytes = await readFile(join(entry.parentPath, entry.name));
    for (const [what, part] of Object.entries(wanted))
      if (bytes.includes(Buffer.from(part))) found.add(what);
  }
  return [...found].sort();
}
