/** What identifying came to. */
export type Decision = "known" | "ambiguous" | "new";

/** One identity that it may be. */
export interface Candidate {
  readonly identity: string;
  /** Inner product with its best entry, [−1, 1], larger is closer. */
  readonly similarity: number;
  /** [0, 1]; those of all identities and that of nobody sum to 1. */
  readonly confidence: number;
  /** That entry. */
  readonly entryId: string;
}

/** A decision with what it rests on. */
export interface Identification {
  readonly decision: Decision;
  /** Of the best; undefined where nobody was found. */
  readonly identity: string | undefined;
  /** [0, 1], of the decision. */
  readonly confidence: number;
  /** By falling similarity, all of them. */
  readonly candidates: readonly Candidate[];
}

/** What a decision turns on. */
export interface IdentifyThresholds {
  /** θ: least similarity of a known identity, [−1, 1]. */
  readonly minSimilarity: number;
  /** Least lead of the best identity over the second, [0, 2]. */
  readonly minMargin: number;
}

/** An entry that was found; its identity is never empty. */
interface FoundEntry {
  readonly identity: string;
  readonly similarity: number;
  readonly entryId: string;
}

/** τ: the temperature of SpCL's contrastive loss, Ge et al. 2020, arXiv:2006.02713. */
const TEMPERATURE = 0.05;

/**
 * Decides whether it is one of the identities found, two of them too close to tell, or nobody.
 *
 *     sᵢ: best similarity of identity i, s₁ ≥ s₂ ≥ …
 *     known: s₁ ≥ θ and s₁ − s₂ ≥ minMargin;  ambiguous: s₁ ≥ θ otherwise;  new: s₁ < θ
 *     confidence(i) = exp(sᵢ/τ) / (exp(θ/τ) + Σⱼ exp(sⱼ/τ));  of nobody: exp(θ/τ) above the line
 *
 * The form is that loss with "nobody we know" as one more prototype at θ. It orders, it is no calibrated
 * probability.
 *
 * @param entries  by falling similarity
 */
export function identificationFrom(
  entries: readonly FoundEntry[],
  { minSimilarity, minMargin }: IdentifyThresholds,
): Identification {
  const best = new Map<string, FoundEntry>();
  for (const entry of entries)
    if (!best.has(entry.identity)) best.set(entry.identity, entry);
  const identities = [...best.values()];
  const weightOf = (similarity: number) => Math.exp(similarity / TEMPERATURE);
  const nobody = weightOf(minSimilarity);
  const sum = identities.reduce(
    (total, { similarity }) => total + weightOf(similarity),
    nobody,
  );
  const candidates = identities.map(({ identity, similarity, entryId }) => ({
    identity,
    similarity,
    confidence: weightOf(similarity) / sum,
    entryId,
  }));
  const [first, second] = candidates;
  if (first === undefined || first.similarity < minSimilarity)
    return {
      decision: "new",
      identity: first?.identity,
      confidence: nobody / sum,
      candidates,
    };
  const lead = first.similarity - (second?.similarity ?? -Infinity);
  return {
    decision: lead >= minMargin ? "known" : "ambiguous",
    identity: first.identity,
    confidence: first.confidence,
    candidates,
  };
}
