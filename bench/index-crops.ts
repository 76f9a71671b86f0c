// Features of rendered crops by somebody's trained encoder: what a gallery really holds, in small.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { embedDataSet } from "#train/bundle-evaluation";
import { engines } from "#train/engines";
import { renderDomain } from "#train/synth";

import { osnetMissing, writeOsnetBundle } from "../test/support/osnet.js";
import { type BenchFeatures, exists, writeRows } from "./index-data.js";
import { benchSeed, isQuick } from "./report.js";

const IDENTITIES = isQuick ? 40 : 250;
const CAMERAS = 6;
const CROPS_OF_IDENTITY = 12;

/** Why there are none; false: there are. */
export const cropsMissing = osnetMissing;

/** Features of OSNet-x0.25, 512 numbers: training crops are the rows, queries the queries. Made once a seed and size. */
export async function cropFeatures(): Promise<BenchFeatures> {
  const folder = join("out", "bench", "features");
  const name = `crops-${IDENTITIES}x${CROPS_OF_IDENTITY}-seed${benchSeed}`;
  const count = IDENTITIES * CROPS_OF_IDENTITY;
  const queryCount = Math.floor(IDENTITIES / 5) * CAMERAS;
  const made: BenchFeatures = {
    rows: join(folder, `${name}.f32`),
    queries: join(folder, `${name}-queries.f32`),
    count,
    queryCount,
    dimension: 512,
    note: `${count} rendered crops of ${IDENTITIES} people in ${CAMERAS} cameras, OSNet-x0.25`,
  };
  if (await exists(made.queries)) return made;
  await mkdir(folder, { recursive: true });
  const data = join(folder, `${name}-data`);
  if (!(await exists(data)))
    await renderDomain({
      domain: "target",
      out: data,
      seed: benchSeed,
      cameras: CAMERAS,
      identities: IDENTITIES,
      cropsPerIdentity: CROPS_OF_IDENTITY,
      testIdentities: Math.floor(IDENTITIES / 5),
      testCropsPerIdentity: CROPS_OF_IDENTITY,
    });
  const { folder: model } = await writeOsnetBundle(join(folder, "models"));
  const { train, query } = await embedDataSet(
    { model, data, format: "market1501" },
    ["train", "query"],
    { engine: engines.onnxruntime({}) },
  );
  await writeRows(made.rows, train.features);
  await writeRows(made.queries, query.features);
  return made;
}
