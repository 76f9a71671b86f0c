import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { gaussianIdentities } from "./gaussian-identities.js";
import { benchSeed } from "./report.js";

/** float32 files that every peer reads, row-major. */
export interface BenchFeatures {
  readonly rows: string;
  readonly queries: string;
  readonly count: number;
  readonly queryCount: number;
  readonly dimension: number;
  readonly note: string;
}

/** Numbers of a feature in every bench of the index. */
export const DIMENSION = 512;

const QUERIES = 256;

/** Rows of one identity, as a camera network sees somebody a few times. */
export const ROWS_OF_IDENTITY = 20;
/** The noise is twice as long as the centre. */
export const SPREAD = 2;

/** Unit features around the centres of identities, and queries of the same identities; made once a seed and size. */
export function clusteredFeatures(count: number): Promise<BenchFeatures> {
  const identities = count / ROWS_OF_IDENTITY;
  return generated(count, identities, {
    name: `${count}x${DIMENSION}-seed${benchSeed}`,
    note: `${count} × ${DIMENSION}, ${identities} Gaussian identities, spread ${SPREAD}`,
  });
}

/** Unit features without any structure: every row is an identity of its own. */
export function gaussianFeatures(count: number): Promise<BenchFeatures> {
  return generated(count, count + QUERIES, {
    name: `${count}x${DIMENSION}-gaussian-seed${benchSeed}`,
    note: `${count} × ${DIMENSION}, Gaussian`,
  });
}

async function generated(
  count: number,
  identities: number,
  { name, note }: { readonly name: string; readonly note: string },
): Promise<BenchFeatures> {
  const folder = join("out", "bench", "features");
  const made: BenchFeatures = {
    rows: join(folder, `${name}.f32`),
    queries: join(folder, `${name}-queries.f32`),
    count,
    queryCount: QUERIES,
    dimension: DIMENSION,
    note,
  };
  if (await exists(made.queries)) return made;
  await mkdir(folder, { recursive: true });
  const { features } = gaussianIdentities({
    instances: count + QUERIES,
    centres: identities,
    dimension: DIMENSION,
    spread: SPREAD,
    seed: benchSeed,
  });
  const cut = count * DIMENSION;
  await writeRows(made.rows, features.subarray(0, cut));
  await writeRows(made.queries, features.subarray(cut));
  return made;
}

/** Writes float32 rows; the file is there whole or not at all. */
export async function writeRows(
  path: string,
  rows: Float32Array,
): Promise<void> {
  const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
  await writeFile(`${path}.part`, bytes);
  await rename(`${path}.part`, path);
}

/** Whether there is such a file or folder. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The float32 rows of a file. */
export async function readRows(path: string): Promise<Float32Array> {
  const { buffer, byteOffset, byteLength } = await readFile(path);
  return new Float32Array(buffer, byteOffset, byteLength / 4);
}

/** Share of the true nearest that were found, over all queries. */
export function recallOf(
  hits: readonly number[],
  truth: readonly number[],
  k: number,
): number {
  let found = 0;
  for (let start = 0; start < truth.length; start += k) {
    const wanted = new Set(truth.slice(start, start + k));
    for (const id of hits.slice(start, start + k)) if (wanted.has(id)) found++;
  }
  return found / truth.length;
}
