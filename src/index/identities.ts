import { setImmediate } from "node:timers/promises";

import { MISSING } from "./dictionary.js";
import type { Filter } from "./filter.js";
import { chunkFilter } from "./filter-columns.js";
import { compareIds, type GalleryRows } from "./gallery-rows.js";
import type { IdentityPage, IdentitySummary } from "./gallery-types.js";
import type { RowChunk } from "./row-chunk.js";
import { Turns } from "./turns.js";

/** Cameras that a summary lists. */
const camerasListed = 32;

/** Identities compared in one turn of the main thread. */
const comparedAtOnce = 4096;

/** Entries counted in one turn: some 0.1 µs each. */
const countedAtOnce = 4096;

/** Which identities a page is of. */
export interface IdentitiesPage {
  readonly filter?: Filter | undefined;
  /** The page begins behind it, whether it is there or not; default: at the first. */
  readonly after?: string | undefined;
  readonly pageSize: number;
}

/** What is known of one identity while its entries are counted. */
interface Tally {
  readonly identity: string;
  entryCount: number;
  readonly cameras: Set<number>;
  firstUs: number;
  lastUs: number;
}

/**
 * One page of the identities that have entries that pass a filter, in byte order.
 *
 * Two walks over the columns, in turns: one finds the identities, one counts the entries of the page's. The
 * rows must not change until it is done.
 *
 * @param nowUs  entries that expire by then do not count
 */
export async function listIdentities(
  rows: GalleryRows,
  { filter, after, pageSize }: IdentitiesPage,
  nowUs: number,
): Promise<IdentityPage> {
  const holds = chunkFilter(rows, filter === undefined ? [] : [filter], nowUs);
  const seen = new Uint8Array(rows.identities.bound);
  for (const chunk of rows.chunks) {
    const mask = holds(chunk);
    const { identity } = chunk.columns;
    for (let i = 0; i < chunk.count; i++) seen[identity[i]] |= mask[i];
    await setImmediate();
  }
  seen[MISSING] = 0;
  const codes = await firstCodes(rows, seen, { after, count: pageSize + 1 });
  const page = codes.slice(0, pageSize);
  const tallies = new Map<number, Tally>(
    page.map((code) => [code, emptyTally(rows.identities.text(code))]),
  );
  const wanted = new Uint8Array(rows.identities.bound);
  for (const code of page) wanted[code] = 1;
  const turns = new Turns(countedAtOnce);
  for (const chunk of rows.chunks) {
    // A copy: the mask itself is good for this turn only.
    const mask = holds(chunk).slice(0, chunk.count);
    const { identity } = chunk.columns;
    for (let i = 0; i < chunk.count; i++) mask[i] &= wanted[identity[i]];
    for (let i = mask.indexOf(1); i >= 0; i = mask.indexOf(1, i + 1)) {
      count(tallies.get(identity[i]), chunk, i);
      if (turns.isOver) await turns.next();
    }
    await turns.next();
  }
  const last = codes.length > pageSize ? page.at(-1) : undefined;
  return {
    identities: [...tallies.values()].map((tally) => summary(rows, tally)),
    nextIdentity: last === undefined ? undefined : rows.identities.text(last),
  };
}

/** The first marked codes behind a text, by their texts. */
async function firstCodes(
  { identities }: GalleryRows,
  marked: Uint8Array,
  {
    after,
    count,
  }: { readonly after: string | undefined; readonly count: number },
): Promise<readonly number[]> {
  const byText = (a: number, b: number) =>
    compareIds(identities.text(a), identities.text(b));
  let first: number[] = [];
  let bound: string | undefined;
  for (let code = 0; code < marked.length; code++) {
    if (code % comparedAtOnce === comparedAtOnce - 1) await setImmediate();
    if (marked[code] === 0) continue;
    const text = identities.text(code);
    if (after !== undefined && compareIds(text, after) <= 0) continue;
    if (bound !== undefined && compareIds(text, bound) > 0) continue;
    first.push(code);
    // Sorted once in a while: each time half of them are found to be too many.
    if (first.length < 2 * count) continue;
    first = first.sort(byText).slice(0, count);
    bound = identities.text(first[count - 1]);
  }
  return first.sort(byText).slice(0, count);
}

function emptyTally(identity: string): Tally {
  return {
    identity,
    entryCount: 0,
    cameras: new Set(),
    firstUs: Infinity,
    lastUs: -Infinity,
  };
}

function count(tally: Tally | undefined, chunk: RowChunk, at: number): void {
  if (tally === undefined) return;
  const { camera, capturedAtUs } = chunk.columns;
  tally.entryCount++;
  if (camera[at] !== MISSING) tally.cameras.add(camera[at]);
  if (Number.isNaN(capturedAtUs[at])) return;
  tally.firstUs = Math.min(tally.firstUs, capturedAtUs[at]);
  tally.lastUs = Math.max(tally.lastUs, capturedAtUs[at]);
}

function summary(
  rows: GalleryRows,
  { identity, entryCount, cameras, firstUs, lastUs }: Tally,
): IdentitySummary {
  return {
    identity,
    entryCount,
    cameraIds: [...cameras]
      .map((code) => rows.cameras.text(code))
      .sort(compareIds)
      .slice(0, camerasListed),
    captured:
      firstUs === Infinity
        ? undefined
        : { startUs: firstUs, endUs: lastUs + 1 },
  };
}
