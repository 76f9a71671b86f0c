import { join } from "node:path";
import { writeBundle, writeBundleFolder, type Json } from "#core/manifest";
import { writeModel } from "#onnx/model";
import { PIXEL_DEVIATION, PIXEL_MEAN } from "./augmentation.js";
import { embedPixels } from "./bundle-evaluation.js";
import type { DomainCrops } from "./domain-crops.js";
import type { Domain } from "./engine.js";
import { ExportVerificationError } from "./errors.js";
import { serveableEncoder } from "./export.js";
import type { BestEpoch } from "./checkpoint.js";
import type { Run } from "./run.js";
import type { TrainOptions } from "./settings.js";

/** Crops that pass through the training graph and the bundle. */
const VERIFIED_CROPS = 64;

/** Largest difference of any number of a unit feature (issue: verified on write). */
const VERIFIED_WITHIN = 1e-4;

/** What is exported of a run. */
export interface ExportRequest {
  readonly options: TrainOptions;
  /** Folder of the bundle within the run's. */
  readonly folder: string;
  readonly domain: Domain;
  readonly best: BestEpoch | undefined;
}

/** A bundle that was written. */
export interface ExportResult {
  readonly folder: string;
  readonly verificationError: number;
  readonly published?: { readonly name: string; readonly version: number };
}

/**
 * Writes the present encoder as a bundle, after checking that it computes what the training graph does.
 *
 * @throws {ExportVerificationError} a feature differs by more than 1e-4
 */
export async function exportBundle(
  run: Run,
  request: ExportRequest,
): Promise<ExportResult> {
  const { options, domain } = request;
  const { heightPx, widthPx } = run.settings;
  const encoder = writeModel(
    serveableEncoder(run.session.exportEncoder(domain), {
      heightPx,
      widthPx,
      mean: PIXEL_MEAN,
      std: PIXEL_DEVIATION,
      scale: 1 / 255,
    }),
  );
  const verificationError = await verify(run, encoder, request);
  const facts = {
    heightPx,
    widthPx,
    dimension: run.session.dimension,
    training: trainingFacts(run, request),
    dataFingerprint: [run.source, run.target]
      .map((crops) => crops?.fingerprint ?? "")
      .join(""),
    metrics: metricsOf(run, request),
  };
  const folder = join(options.out, request.folder);
  await writeBundleFolder(folder, bundleName(options, run), encoder, facts);
  if (options.publish === undefined || options.name === undefined)
    return { folder, verificationError };
  const { manifest } = await writeBundle(
    options.publish,
    options.name,
    encoder,
    facts,
  );
  const { name, version } = manifest;
  return { folder, verificationError, published: { name, version } };
}

/** The same crops through the training graph in evaluation mode and through the bundle; the largest difference. */
async function verify(
  run: Run,
  encoder: Uint8Array,
  { domain }: ExportRequest,
): Promise<number> {
  const { session, loader, settings, context } = run;
  const crops = cropsOf(run, domain);
  if (crops === undefined) return 0;
  const set = loader.add(crops.crops.slice(0, VERIFIED_CROPS));
  const positions = Int32Array.from({ length: set.count }, (_, i) => i);
  const images = await loader.evaluationBatch(set, positions);
  const expected = await session.embed(images, set.count, domain);
  loader.release(images);
  const { heightPx, widthPx } = settings;
  const bundle = await context.engine.load(encoder, {
    heightPx,
    widthPx,
    device: "cpu",
    threads: 0,
  });
  try {
    const received = await embedPixels(loader, set, bundle, () => undefined);
    let worst = 0;
    for (let i = 0; i < expected.length; i++)
      // Written so that NaN fails.
      if (!(Math.abs(received[i] - expected[i]) <= worst))
        worst = Math.abs(received[i] - expected[i]);
    if (!(worst <= VERIFIED_WITHIN))
      throw new ExportVerificationError(worst, VERIFIED_WITHIN, set.count);
    return worst;
  } finally {
    await bundle.close();
    loader.drop(set);
  }
}

function cropsOf(run: Run, domain: Domain): DomainCrops | undefined {
  const [own, other] =
    domain === "source" ? [run.source, run.target] : [run.target, run.source];
  return own ?? other;
}

/** What the manifest says of the training: settings, choice, last figures; no time, no path. */
function trainingFacts(run: Run, { domain, best }: ExportRequest): Json {
  const last = run.log.epochs.at(-1);
  const { clustering, meanLoss } = last ?? {};
  return JSON.parse(
    JSON.stringify({
      method: "spcl",
      engine: run.context.engine.name,
      settings: run.settings,
      exportedDomain: domain,
      exportedEpoch: best?.epoch ?? run.settings.epochs,
      lastEpoch: { meanLoss, clustering },
    }),
  ) as Json;
}

function metricsOf(
  run: Run,
  { best }: ExportRequest,
): Readonly<Record<string, number>> {
  const exported = run.log.epochs[(best?.epoch ?? run.settings.epochs) - 1];
  const { mAP, rank1 } = exported ?? {};
  return {
    ...(mAP === undefined ? {} : { mAP }),
    ...(rank1 === undefined ? {} : { "rank-1": rank1 }),
  };
}

/** Model names are lower case; an encoder file's name may not be one, and a bundle's comes with its version. */
function bundleName(options: TrainOptions, { settings }: Run): string {
  if (options.name !== undefined) return options.name;
  const name = settings.encoder
    .toLowerCase()
    .replace(/\.onnx$|\/\d+$/, "")
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 63);
  return name === "" ? "encoder" : name;
}
