import { norm, normalizeRows } from "#core/vectors";

import { entryProblem, type UncheckedEntry } from "./entry-rules.js";
import type { Enrollment, GallerySpec } from "./gallery-types.js";

/** Entries read, written or enrolled at once. */
export const entriesAtOnce = 512;

/** Where an export says what it is of, and its entries come from. */
export interface ExportSource {
  readonly path: string;
  /** The gallery that it was made of; undefined: it does not say, another program made it. */
  readonly gallery: GallerySpec | undefined;
  /** D, of every feature. */
  readonly dimension: number;
  /** Entries. */
  readonly count: number;
  /**
   * The entries, each of them checked, at most {@link entriesAtOnce} at once; from the first whenever it is called.
   *
   * @throws {ExportFormatError} @throws {NpyFormatError} @throws {ParquetFormatError} by what it is
   * @throws the signal's reason
   */
  blocks(signal: AbortSignal): AsyncGenerator<readonly Enrollment[]>;
  /** Idempotent. */
  close(): Promise<void>;
}

// What float32 leaves of a norm of one. A feature this close is taken as it is: what was exported comes back bit by bit.
const asExported = 1e-6;

/**
 * An entry of a file as it is enrolled.
 *
 * @param fields   where they are wrong, `fail` is thrown with what is wrong
 * @param feature  float32 [D]; scaled to unit norm in place
 */
export function enrollmentFrom(
  fields: UncheckedEntry,
  feature: Float32Array,
  fail: (problem: string) => Error,
): Enrollment {
  const problem = entryProblem(fields);
  if (problem !== undefined) throw fail(problem);
  const length = norm(feature);
  if (!(Math.abs(length - 1) <= 1e-3))
    throw fail(`its feature has norm ${length}, expected 1`);
  if (Math.abs(length - 1) > asExported) normalizeRows(feature, feature.length);
  // What an enrolment gives anew.
  const { enrolledAtUs: _at, sequence: _sequence, ...rest } = fields;
  return { ...rest, feature };
}
