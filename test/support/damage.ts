import { spawn } from "node:child_process";
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { RandomStream } from "#core/random";

const child = fileURLToPath(new URL("./damage-child.js", import.meta.url));

/** What a disk did to one file: other bits in a byte, or an end before its time. */
export type Damage = {
  /** From the folder on. */
  readonly file: string;
} & (
  | { readonly flippedAt: number; readonly bits: number }
  | { readonly cutAt: number }
);

/** What its next owner made of a damaged folder. */
export interface Outcome {
  /**
   * `refused`: it was not opened; `told`: reading or `check` found it; `same`: everything is as before; `changed`: a
   * value is another and nobody said so; `lost`: an entry is; `ended`: the process was, by a signal.
   */
  readonly was: "refused" | "told" | "same" | "changed" | "lost" | "ended";
  /** Of the failure; NONE: it was no error of ours; empty: there was none. */
  readonly code: string;
  readonly message: string;
  /** What the galleries said when they were opened. */
  readonly lines: readonly string[];
}

/** Does it to a file of a folder. */
export async function applyDamage(
  folder: string,
  damage: Damage,
): Promise<void> {
  const path = join(folder, damage.file);
  if ("cutAt" in damage) return truncate(path, damage.cutAt);
  const bytes = await readFile(path);
  bytes[damage.flippedAt] ^= damage.bits;
  await writeFile(path, bytes);
}

/** Flips a bit of a file wherever it has these bytes, of which there must be two or more. */
export async function flipWhere(
  path: string,
  bytes: Uint8Array,
): Promise<void> {
  const file = await readFile(path);
  const places: number[] = [];
  for (let at = file.indexOf(bytes); at >= 0; at = file.indexOf(bytes, at + 1))
    places.push(at);
  if (places.length === 0) throw new RangeError(`${path} has no such bytes`);
  for (const at of places) file[at + 1] ^= 4;
  await writeFile(path, file);
}

/** Every file of a folder, from it on. */
export async function filesIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, {
    recursive: true,
    withFileTypes: true,
  });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

const pageBytes = 4096;

/** A file cut off: to nothing, to one byte, in the middle, by its last byte, and at borders of pages. */
export function cutsOf(
  file: string,
  sizeBytes: number,
  pages = 4,
): readonly Damage[] {
  const borders = Array.from({ length: pages }, (_, i) => pageBytes * (i + 1));
  const last = Math.floor((sizeBytes - 1) / pageBytes) * pageBytes;
  const lengths = [0, 1, sizeBytes >> 1, sizeBytes - 1, last, ...borders];
  return [...new Set(lengths)]
    .filter((cutAt) => cutAt >= 0 && cutAt < sizeBytes)
    .map((cutAt) => ({ file, cutAt }));
}

/** Some bits of some bytes of a file, drawn at random from a span of it. */
export function flipsOf(
  file: string,
  [first, end]: readonly [number, number],
  { random, count }: { readonly random: RandomStream; readonly count: number },
): readonly Damage[] {
  return Array.from({ length: Math.min(count, end - first) }, () => ({
    file,
    flippedAt: first + random.below(end - first),
    // One bit as often as several.
    bits: random.uniform() < 0.5 ? 1 << random.below(8) : 1 + random.below(255),
  }));
}

/** Opens a copy of a folder with each damage, in processes of their own; one that is ended is followed by another. */
export async function outcomesOf(
  folder: string,
  damages: readonly Damage[],
): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  while (outcomes.length < damages.length) {
    const before = outcomes.length;
    const { lines, signal, errors } = await run(
      folder,
      damages.slice(outcomes.length),
    );
    for (const line of lines) if ("was" in line) outcomes.push(line);
    if (outcomes.length === damages.length) break;
    const isBegun = lines.length > 2 * (outcomes.length - before);
    if (!isBegun) throw new RangeError(`the child said nothing: ${errors}`);
    const message = `${signal ?? "ended"}: ${errors}`;
    outcomes.push({ was: "ended", code: "", message, lines: [] });
  }
  return outcomes;
}

async function run(folder: string, damages: readonly Damage[]) {
  const running = spawn(process.execPath, [child, folder, `${folder}-copy`], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  running.stdin.end(damages.map((one) => `${JSON.stringify(one)}\n`).join(""));
  let text = "";
  let errors = "";
  running.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  running.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    errors += chunk;
  });
  const signal = await new Promise<NodeJS.Signals | null>((resolve) => {
    running.on("close", (_code, by) => {
      resolve(by);
    });
  });
  const lines = text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Outcome | { readonly begun: Damage });
  return { lines, signal, errors };
}
