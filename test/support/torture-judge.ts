import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { randomStream } from "#core/random";
import { dot } from "#core/vectors";
import { listBackups, stageBackup } from "#index/backup";
import type { Gallery } from "#index/gallery";
import type { Entry } from "#index/gallery-types";
import { Tombstones } from "#index/tombstones";

import {
  featureNamed,
  openGalleries,
  SteppedClock,
  unitFeatures,
  type OpenGalleries,
} from "./galleries.js";
import type { KnownEntry, TortureModel } from "./torture-model.js";
import {
  cropNamed,
  keeper,
  timeOf,
  tortureDimension,
  type Operation,
  type Placed,
} from "./torture-plan.js";
import { receiptsIn } from "./torture-receipts.js";

/** What a folder was found to hold, against the model. */
export interface Verdict {
  /** Acknowledged, and not there, or not as it was acknowledged. */
  readonly lost: string[];
  /** There twice. */
  readonly doubled: string[];
  /** Anything else that should not be. */
  readonly wrong: string[];
}

/** What is to be judged. */
export interface Judged {
  /** Holds `data` and `backups`. */
  readonly folder: string;
  /** Of everything that was acknowledged; what turns out to be there is added. */
  readonly model: TortureModel;
  /** The last step, whose clock is the present. */
  readonly step: number;
  /** What was begun and never answered: all of them of the last step. */
  readonly open: readonly Placed[];
  /** Acknowledged writes of the last step, by lane. */
  readonly acknowledged: ReadonlyMap<number, Operation>;
  /** Draws the queries. */
  readonly seed: number;
}

/** Opens a folder as its next owner would, and compares all of it with the model. */
export async function judge(judged: Judged): Promise<Verdict> {
  const { folder, model, step } = judged;
  const verdict: Verdict = { lost: [], doubled: [], wrong: [] };
  const data = join(folder, "data");
  await rm(join(data, "restoring"), { recursive: true, force: true });
  const open = await openGalleries(data, {
    clock: new SteppedClock(timeOf(step)),
  });
  try {
    holdToReceipts(open, judged, verdict);
    await resolve(open, judged);
    for (const [name] of model.galleries) {
      const found = open.galleries.known().find((one) => one.name === name);
      if (found === undefined) {
        verdict.lost.push(`gallery ${name}`);
        continue;
      }
      await compareEntries(found, judged, verdict);
      const { problems } = await found.check();
      for (const problem of problems) verdict.wrong.push(`${name}: ${problem}`);
      await compareSearches(found, judged, verdict);
    }
    for (const { name } of open.galleries.known())
      if (!model.galleries.has(name))
        verdict.wrong.push(`gallery ${name} should not be there`);
    await holdBackups(folder, verdict);
  } finally {
    await open.galleries.close();
    await open.store.close();
  }
  return verdict;
}

/** A receipt is in the transaction of its write: one that was acknowledged is there. */
function holdToReceipts(
  { store }: OpenGalleries,
  { acknowledged, step }: Judged,
  { lost }: Verdict,
): void {
  const receipts = receiptsIn(store);
  for (const [lane, { kind }] of acknowledged) {
    // An update has none of its own, and may have chosen nothing: its entries are compared.
    if (kind === "update") continue;
    const held = receipts[String(lane)];
    if (held !== step)
      lost.push(`${kind} of lane ${lane} in step ${step}: receipt ${held}`);
  }
}

/** Finds out which of the unanswered operations took effect, and applies those to the model. */
async function resolve(
  { store, galleries }: OpenGalleries,
  { model, open, step }: Judged,
): Promise<void> {
  const receipts = receiptsIn(store);
  for (const { lane, operation } of open) {
    let isDone = false;
    switch (operation.kind) {
      case "enroll":
      case "delete":
      case "delete-identity":
      case "delete-filter":
      case "update":
        isDone = receipts[String(lane)] === step;
        break;
      case "forget":
        isDone = new Tombstones(store).matcher([operation.gallery])(
          operation.identity,
          timeOf(step) * 1000,
        );
        break;
      case "create":
      case "drop": {
        const { gallery, kind } = operation;
        const isThere = galleries.known().some(({ name }) => name === gallery);
        isDone = isThere === (kind === "create");
        break;
      }
      case "restore": {
        // One commit for all galleries: it is there for every one of them or for none.
        const after = model.fork();
        after.apply({ lane: keeper, operation }, step);
        isDone = await agrees([...galleries.known()], after, step);
        break;
      }
      case "snapshot":
      case "rebuild":
      case "reindex":
      case "compact":
      case "sweep":
      case "backup":
        break;
    }
    if (isDone) model.apply({ lane, operation }, step);
  }
}

async function agrees(
  galleries: readonly Gallery[],
  model: TortureModel,
  step: number,
): Promise<boolean> {
  if (galleries.length !== model.galleries.size) return false;
  for (const gallery of galleries) {
    const known = model.alive(gallery.name, timeOf(step));
    const { entries } = await gallery.listEntries({
      pageSize: 1e9,
      view: "feature",
    });
    const isSame =
      entries.length === known.size &&
      entries.every((entry) => isAsKnown(entry, known.get(entry.entryId)));
    if (!isSame) return false;
  }
  return true;
}

/** Whether an entry is what the model knows: its version, by the feature that follows from its name, and every field. */
function isAsKnown(
  { feature, sequence, expiresAtUs, ...entry }: Entry,
  known: KnownEntry | undefined,
): boolean {
  if (known === undefined || feature === undefined) return false;
  const expected = featureNamed(known.version, tortureDimension);
  return (
    feature.every((value, i) => value === expected[i]) &&
    entry.identity === known.identity &&
    entry.cameraId === known.cameraId &&
    entry.trackId === known.trackId &&
    isDeepStrictEqual(entry.attributes, known.attributes) &&
    (expiresAtUs ?? Infinity) === known.expiresAtMs * 1000 &&
    sequence === (known.sequence ?? sequence)
  );
}

async function compareEntries(
  gallery: Gallery,
  { model, step }: Judged,
  { lost, doubled, wrong }: Verdict,
): Promise<void> {
  const { name } = gallery;
  const known = model.alive(name, timeOf(step));
  const all = { pageSize: 1e9 };
  const { entries } = await gallery.listEntries({ ...all, view: "feature" });
  const withCrops = await gallery.listEntries({ ...all, view: "crop" });
  const crops = new Map(
    withCrops.entries.map(({ entryId, crop }) => [entryId, crop]),
  );
  const found = new Set<string>();
  const { cropRetention } = gallery.describe();
  for (const entry of entries) {
    const { entryId, sequence } = entry;
    if (found.has(entryId)) doubled.push(`${name} ${entryId}`);
    found.add(entryId);
    const expected = known.get(entryId);
    if (expected === undefined) {
      wrong.push(`${name} ${entryId} (sequence ${sequence}) is not known`);
      continue;
    }
    const crop = crops.get(entryId);
    const hasCrop =
      cropRetention === "none"
        ? crop === undefined
        : crop !== undefined &&
          Buffer.compare(crop, cropNamed(expected.version)) === 0;
    if (!isAsKnown(entry, expected) || !hasCrop)
      lost.push(
        `${name} ${entryId}: ${expected.version} (sequence ${expected.sequence}), found sequence ${sequence}`,
      );
    else model.galleries.get(name)?.set(entryId, { ...expected, sequence });
  }
  for (const [entryId, { version }] of known)
    if (!found.has(entryId)) lost.push(`${name} ${entryId}: ${version}`);
}

/** Searches against brute force: exact ones entry by entry, approximate ones by what each hit claims. */
async function compareSearches(
  gallery: Gallery,
  { model, step, seed }: Judged,
  { wrong }: Verdict,
): Promise<void> {
  const known = [...model.alive(gallery.name, timeOf(step))];
  const queries = unitFeatures(
    randomStream(seed, "torture queries", step),
    2,
    tortureDimension,
  );
  const k = 10;
  for (const mode of ["exact", "index"] as const)
    for (const camera of ["", "c0-1"]) {
      const { results } = await gallery.search({
        ...{ queries, k, mode },
        filter: camera === "" ? {} : { cameraNotIn: [camera] },
      });
      results.forEach(({ hits, exact }, q) => {
        const query = queries.subarray(
          q * tortureDimension,
          (q + 1) * tortureDimension,
        );
        const expected = known
          .filter(([, { cameraId }]) => cameraId !== camera || camera === "")
          .map(([entryId, { version }]) => ({
            entryId,
            similarity: dot(query, featureNamed(version, tortureDimension)),
          }))
          .sort((a, b) => b.similarity - a.similarity);
        const similarities = new Map(
          expected.map(({ entryId, similarity }) => [entryId, similarity]),
        );
        const isRight =
          hits.length === Math.min(k, expected.length) &&
          hits.every(({ entry, similarity }, i) => {
            const own = similarities.get(entry.entryId) ?? NaN;
            const best = expected[i].similarity;
            return (
              Math.abs(own - similarity) < 1e-6 &&
              (!exact || Math.abs(best - similarity) < 1e-6)
            );
          });
        if (!isRight || (mode === "exact" && !exact))
          wrong.push(
            `${gallery.name}: ${mode} search without camera "${camera}" finds ` +
              `${hits.map(({ entry }) => entry.entryId).join(" ")}, not ` +
              expected
                .slice(0, k)
                .map(({ entryId }) => entryId)
                .join(" "),
          );
      });
    }
}

/** A backup that is listed is whole: its files are as its manifest has them. */
async function holdBackups(folder: string, { wrong }: Verdict): Promise<void> {
  const backups = join(folder, "backups");
  const target = join(folder, "held-to-manifest");
  for (const { backupId } of (await listBackups(backups)).slice(0, 1)) {
    try {
      await stageBackup(backups, backupId, target, {
        signal: new AbortController().signal,
        report: () => undefined,
      });
    } catch (error) {
      wrong.push(`backup ${backupId}: ${String(error)}`);
    } finally {
      await rm(target, { recursive: true, force: true });
    }
  }
}

/** Fails where a verdict has anything to say. */
export function assertSound(verdict: Verdict, about: string): void {
  assert.deepEqual(verdict, { lost: [], doubled: [], wrong: [] }, about);
}
