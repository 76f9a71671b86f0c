import { FeatureDimensionError, SequenceAheadError } from "./errors.js";
import type { SearchRequest } from "./gallery-types.js";

/** What a search is checked against. */
export interface SearchedGallery {
  readonly name: string;
  readonly dimension: number;
  /** Last write. */
  readonly sequence: number;
}

/** @throws {FeatureDimensionError} queries are not [Q, D] */
export function checkQueries(
  { name, dimension }: Omit<SearchedGallery, "sequence">,
  { queries }: Pick<SearchRequest, "queries">,
): void {
  if (queries.length % dimension !== 0)
    throw new FeatureDimensionError(name, dimension, queries.length);
}

/** @throws {SequenceAheadError} `minSequence` is beyond the last write */
export function checkSequence(
  { name, sequence }: Omit<SearchedGallery, "dimension">,
  { minSequence = 0 }: Pick<SearchRequest, "minSequence">,
): void {
  if (minSequence > sequence)
    throw new SequenceAheadError(name, minSequence, sequence);
}
