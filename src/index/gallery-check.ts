import type { StoreKey } from "#core/store";
import { norm } from "#core/vectors";

import type { GalleryIndex } from "./gallery-index.js";
import {
  featureFromBytes,
  keysOfGallery,
  soundValue,
  type GalleryRecord,
  type GalleryTables,
} from "./gallery-records.js";
import type { GalleryRows } from "./gallery-rows.js";
import type { GalleryCheck } from "./gallery-types.js";

// More of them would say nothing new.
const problemsListed = 20;

/** What is compared with what. */
export interface CheckedGallery {
  readonly record: GalleryRecord;
  readonly rows: GalleryRows;
  readonly index: GalleryIndex;
  readonly tables: GalleryTables;
}

/**
 * Whether a gallery's store, memory and index hold the same entries with the same features.
 *
 * No write may be under way.
 *
 * @param report  told how many entries were compared
 */
export async function checkGallery(
  gallery: CheckedGallery,
  report: (doneCount: number) => void,
): Promise<GalleryCheck> {
  const { record, rows, index, tables } = gallery;
  const problems: string[] = [];
  const range = keysOfGallery(record.number);
  const stored = tables.galleries.get(record.name);
  if (stored?.sequence !== record.sequence)
    problems.push(
      `sequence is ${record.sequence}, the store has ${stored?.sequence}`,
    );
  if (record.sequence !== record.writtenCount + record.deletedCount)
    problems.push(
      `sequence ${record.sequence} is not ${record.writtenCount} written and ${record.deletedCount} deleted`,
    );
  const expected =
    record.writtenCount - record.replacedCount - record.deletedCount;
  const entries = tables.entries.count(range);
  const features = tables.features.count(range);
  if (entries !== expected)
    problems.push(`${entries} entries in the store, ${expected} were written`);
  if (features !== entries)
    problems.push(`${entries} entries have ${features} features`);
  if (rows.size !== entries)
    problems.push(`${entries} entries in the store, ${rows.size} in memory`);

  const ids = await index.ids();
  let indexed = 0;
  const names = new Set<string>();
  for (const row of rows.all()) {
    const { entryId, sequence, featureId } = row;
    if (names.has(entryId)) problems.push(`entry "${entryId}" is there twice`);
    names.add(entryId);
    if (sequence > record.sequence)
      problems.push(`entry "${entryId}" has sequence ${sequence}, not given`);
    if (ids.has(featureId)) indexed++;
    else problems.push(`entry "${entryId}" is not in the index`);
  }
  if (ids.size !== indexed)
    problems.push(`${ids.size - indexed} ids in the index are of no entry`);
  const brokenEntries = await compareFeatures(gallery, problems, report);
  return {
    gallery: record.name,
    entries: rows.size,
    sequence: record.sequence,
    indexed,
    problems: problems.slice(0, problemsListed),
    brokenEntries,
  };
}

async function compareFeatures(
  { record, rows, index, tables }: CheckedGallery,
  problems: string[],
  report: (doneCount: number) => void,
): Promise<readonly string[]> {
  const broken: string[] = [];
  const { number, dimension } = record;
  const all = [...rows.all()];
  for (let start = 0; start < all.length; start += 256) {
    report(start);
    const part = all.slice(start, start + 256);
    const inIndex = await index.features(
      Float64Array.from(part, ({ featureId }) => featureId),
    );
    // After the features: an index that is trained in between is only trusted less.
    const { error } = await index.facts();
    part.forEach(({ entryId, featureId, hasCrop }, i) => {
      const key = [number, featureId];
      const bytes = soundValue(tables.features, key);
      const damaged = [
        ...(bytes === undefined && tables.features.has(key) ? ["feature"] : []),
        ...damagedOf(tables, key, hasCrop),
      ];
      if (damaged.length > 0) {
        broken.push(entryId);
        problems.push(`entry "${entryId}" has a damaged ${damaged.join(", ")}`);
        return;
      }
      if (bytes?.byteLength !== 4 * dimension) {
        broken.push(entryId);
        problems.push(
          `entry "${entryId}" has a feature of ${bytes?.byteLength ?? 0} bytes, not ${4 * dimension}`,
        );
        return;
      }
      const feature = featureFromBytes(bytes);
      const length = norm(feature);
      if (!(Math.abs(length - 1) <= 1e-3)) {
        broken.push(entryId);
        problems.push(`entry "${entryId}" has a feature of norm ${length}`);
      }
      const other = inIndex.subarray(i * dimension, (i + 1) * dimension);
      // Lossy storage says itself how far a feature may be off; else it is the same to the bit.
      const isSame =
        error === 0
          ? feature.every((value, j) => value === other[j])
          : norm(feature.map((value, j) => value - other[j])) <= error + 1e-6;
      if (!isSame)
        problems.push(
          `entry "${entryId}" has another feature in the index than in the store`,
        );
    });
  }
  return broken;
}

/** What is in the store beside a feature and is not what was written. */
function damagedOf(
  { crops, cropHashes }: GalleryTables,
  key: StoreKey,
  hasCrop: boolean,
): readonly string[] {
  const isHashDamaged =
    cropHashes.has(key) && soundValue(cropHashes, key) === undefined;
  return [
    ...(hasCrop && soundValue(crops, key) === undefined ? ["crop"] : []),
    ...(isHashDamaged ? ["hash of a crop"] : []),
  ];
}
