import type { EntrySource } from "./gallery-entry.js";
import type { Row } from "./gallery-rows.js";

/** A row with what its crop is known by outside the gallery. */
export interface HashedRow extends Row {
  /** Keyed hash of its crop, hexadecimal; left out: it came as a feature, or before there were hashes. */
  readonly cropHash?: string;
}

/** Rows with the hashes that the store has of their crops. */
export function hashedRows(
  rows: readonly Row[],
  { tables, number }: EntrySource,
): readonly HashedRow[] {
  return rows.map((row) => {
    const bytes = tables.cropHashes.get([number, row.featureId]);
    return bytes === undefined
      ? row
      : { ...row, cropHash: Buffer.from(bytes).toString("hex") };
  });
}
