import type { RenderOptions } from "#train/synth";
import type { TrainOptions } from "#train/settings";

/** The shape of a rendered domain. */
type DomainRecipe = Pick<
  RenderOptions,
  | "domain"
  | "cameras"
  | "identities"
  | "cropsPerIdentity"
  | "testIdentities"
  | "testCropsPerIdentity"
>;

/**
 * The two domains of the demonstration.
 *
 * Eight source cameras: variety of cameras is what carries over to the target (with four the source-only
 * encoder is at chance there).
 */
export const domainRecipes: Readonly<
  Record<"source" | "target", DomainRecipe>
> = {
  source: {
    domain: "source",
    cameras: 8,
    identities: 60,
    cropsPerIdentity: 16,
    testIdentities: 40,
    testCropsPerIdentity: 24,
  },
  target: {
    domain: "target",
    cameras: 4,
    identities: 40,
    cropsPerIdentity: 16,
    testIdentities: 40,
    testCropsPerIdentity: 12,
  },
};

/** What every encoder of the demonstration shares: same start, same number of iterations. */
export const trainingRecipe = {
  encoder: "resnet_tiny",
  heightPx: 64,
  widthPx: 32,
  padPx: 4,
  epochs: 30,
  iterations: 40,
  batchSize: 32,
  learningRate: 2e-3,
} as const satisfies Partial<TrainOptions>;

/** Epochs on the source alone before the adaptation; the baseline gets as many iterations in all. */
export const warmupEpochs = 8;

/** Crops of a rendered domain, training and test together. */
export function cropsOf(recipe: DomainRecipe): number {
  return (
    recipe.identities * recipe.cropsPerIdentity +
    recipe.testIdentities * recipe.testCropsPerIdentity
  );
}
