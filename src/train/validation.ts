import { dataFormats } from "./data-sets.js";
import { openDomain, type DomainCrops } from "./domain-crops.js";
import type { Domain } from "./engine.js";
import { evaluate, type EvaluationSet } from "./evaluation.js";
import { embedCrops } from "./run-memory.js";
import type { Run } from "./run.js";
import type { TrainOptions } from "./settings.js";

/** Figures of an epoch on the validation set. */
export interface ValidationFigures {
  readonly mAP: number;
  readonly rank1: number;
}

/** A labelled data set that is searched after every epoch; nothing is learned from it. */
export interface Validation {
  evaluate(): Promise<ValidationFigures>;
}

/**
 * Opens the validation set where the options name one.
 *
 * @throws {DataSetLayoutError} the folder does not fit the format
 */
export async function openValidation(
  run: Run,
  options: TrainOptions,
): Promise<Validation | undefined> {
  if (options.validation === undefined) return undefined;
  const data = await dataFormats[options.format ?? "market1501"](
    options.validation,
    { skipBad: options.skipBad ?? false, splits: ["query", "gallery"] },
  );
  const skipped = options.skipBad === true ? [] : undefined;
  const query = await openDomain(run.loader, data.query, skipped);
  const gallery = await openDomain(run.loader, data.gallery, skipped);
  const domain: Domain = run.settings.mode === "source" ? "source" : "target";
  return {
    async evaluate() {
      run.report({ stage: "evaluating" });
      const { mAP, cmc } = await evaluate(
        await embedSet(run, query, domain),
        await embedSet(run, gallery, domain),
        { dimension: run.session.dimension },
      );
      return { mAP, rank1: cmc[0] };
    },
  };
}

async function embedSet(
  run: Run,
  domain: DomainCrops,
  batchNorms: Domain,
): Promise<EvaluationSet> {
  return {
    features: await embedCrops(run, domain, batchNorms),
    identities: Int32Array.from(domain.crops, ({ identity }) => identity),
    cameras: domain.cameras,
  };
}
