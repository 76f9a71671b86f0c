import {
  homeGalleries,
  timeOf,
  type Chosen,
  type Operation,
  type Placed,
} from "./torture-plan.js";
import { markOf } from "./torture-receipts.js";

/** An entry as the model has it. */
export interface KnownEntry {
  readonly version: string;
  readonly identity: string;
  readonly cameraId: string;
  /** The mark of the last update; empty: there was none. */
  readonly trackId: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly enrolledAtMs: number;
  readonly expiresAtMs: number;
  /** Undefined: the write was never acknowledged, and turned out to be there. */
  readonly sequence: number | undefined;
}

/** What a write answered, where it did. */
export interface Answer {
  /** Enroll: of each item. */
  readonly results?: readonly {
    readonly sequence: number;
    readonly code?: string;
  }[];
  readonly deletedCount?: number;
  readonly updatedCount?: number;
}

type Entries = Map<string, KnownEntry>;

interface KnownBackup {
  /** As they were before its step. */
  readonly galleries: ReadonlyMap<string, ReadonlyMap<string, KnownEntry>>;
  /** Writes of its step, by lane: what it holds of them its receipts say. */
  readonly writes: ReadonlyMap<number, Operation>;
  readonly step: number;
}

function copyOf(
  galleries: ReadonlyMap<string, ReadonlyMap<string, KnownEntry>>,
): Map<string, Entries> {
  return new Map(
    [...galleries].map(([name, entries]) => [name, new Map(entries)]),
  );
}

/** What galleries hold after operations, as plain maps. */
export class TortureModel {
  galleries = new Map<string, Entries>();
  readonly #backups = new Map<string, KnownBackup>();
  readonly #forgotten: {
    readonly gallery: string;
    readonly identity: string;
    readonly atMs: number;
  }[] = [];

  /** Notes what a backup may hold; before any operation of its step is applied. */
  noteBackup(
    backupId: string,
    step: number,
    writes: ReadonlyMap<number, Operation>,
  ): void {
    this.#backups.set(backupId, {
      galleries: copyOf(this.galleries),
      writes,
      step,
    });
  }

  /** A copy that can be tried out on; backups and what was forgotten are shared. */
  fork(): TortureModel {
    const fork = new TortureModel();
    fork.galleries = copyOf(this.galleries);
    for (const [id, backup] of this.#backups) fork.#backups.set(id, backup);
    fork.#forgotten.push(...this.#forgotten);
    return fork;
  }

  /** Entries that are there at a time, of a gallery that may not be. */
  alive(gallery: string, timeMs: number): ReadonlyMap<string, KnownEntry> {
    const entries =
      this.galleries.get(gallery) ?? new Map<string, KnownEntry>();
    return new Map(
      [...entries].filter(([, { expiresAtMs }]) => expiresAtMs > timeMs),
    );
  }

  /**
   * Applies an operation that took effect.
   *
   * @param lane    whose it is
   * @param answer  what was answered; left out where nothing was
   * @returns what the answer should not have said; empty: it was right
   */
  apply(
    { lane, operation }: Placed,
    step: number,
    answer?: Answer,
  ): readonly string[] {
    switch (operation.kind) {
      case "enroll":
        return this.#enroll(operation, step, answer);
      case "delete":
        return this.#delete(operation.gallery, step, answer, (_, entryId) =>
          operation.entryIds.includes(entryId),
        );
      case "delete-identity":
        return this.#delete(
          operation.gallery,
          step,
          answer,
          ({ identity }) => identity === operation.identity,
        );
      case "delete-filter":
        return this.#delete(
          operation.gallery,
          step,
          answer,
          ({ identity, cameraId }) =>
            identity === operation.identity && cameraId === operation.cameraId,
        );
      case "update":
        return this.#update(operation, markOf(lane, step), step, answer);
      case "forget": {
        const { gallery, identity } = operation;
        this.#forgotten.push({ gallery, identity, atMs: timeOf(step) });
        return this.#delete(
          gallery,
          step,
          undefined,
          (known) => known.identity === identity,
        );
      }
      case "create":
        this.galleries.set(operation.gallery, new Map());
        return [];
      case "drop":
        this.galleries.delete(operation.gallery);
        return [];
      case "restore":
        this.#restore(operation);
        return [];
      case "snapshot":
      case "rebuild":
      case "reindex":
      case "compact":
      case "sweep":
      case "backup":
        return [];
    }
  }

  #enroll(
    {
      gallery,
      onExisting,
      items,
    }: Extract<Operation, { readonly kind: "enroll" }>,
    step: number,
    answer: Answer | undefined,
  ): readonly string[] {
    const entries = this.#swept(gallery, step);
    const problems: string[] = [];
    items.forEach(({ entryId, expiresAtMs = Infinity, ...rest }, i) => {
      const known = entries.get(entryId);
      const result = answer?.results?.[i];
      if (known !== undefined && onExisting !== "replace") {
        const isRight =
          result === undefined ||
          (onExisting === "fail"
            ? result.code === "ENTRY_EXISTS"
            : known.sequence === undefined ||
              result.sequence === known.sequence);
        if (!isRight)
          problems.push(
            `${gallery} ${entryId}: ${onExisting} answered ${JSON.stringify(result)}, it has ${known.sequence}`,
          );
        return;
      }
      entries.set(entryId, {
        ...rest,
        ...{ trackId: "", attributes: {} },
        expiresAtMs,
        enrolledAtMs: timeOf(step),
        sequence: result?.sequence,
      });
    });
    return problems;
  }

  #delete(
    gallery: string,
    step: number,
    answer: Answer | undefined,
    isChosen: (known: KnownEntry, entryId: string) => boolean,
  ): readonly string[] {
    const entries = this.#swept(gallery, step);
    const chosen = [...entries].filter(([entryId, known]) =>
      isChosen(known, entryId),
    );
    for (const [entryId] of chosen) entries.delete(entryId);
    const { deletedCount = chosen.length } = answer ?? {};
    return deletedCount === chosen.length
      ? []
      : [`${gallery}: ${deletedCount} were deleted, not ${chosen.length}`];
  }

  #update(
    {
      gallery,
      chosen,
      changes,
    }: Extract<Operation, { readonly kind: "update" }>,
    trackId: string,
    step: number,
    answer: Answer | undefined,
  ): readonly string[] {
    const entries = this.#swept(gallery, step);
    const { attributes, expiresAtMs, ...texts } = changes;
    let updatedCount = 0;
    for (const [entryId, known] of entries) {
      if (!isChosen(chosen, entryId, known)) continue;
      updatedCount++;
      const updated = {
        ...(attributes?.replace ?? known.attributes),
        ...attributes?.set,
      };
      entries.set(entryId, {
        ...known,
        ...texts,
        ...(expiresAtMs === undefined
          ? {}
          : { expiresAtMs: expiresAtMs ?? Infinity }),
        trackId,
        attributes: Object.fromEntries(
          Object.entries(updated).flatMap(([key, value]) =>
            value === null ? [] : [[key, value]],
          ),
        ),
        // Its own, rising from that of the write before.
        sequence: undefined,
      });
    }
    return updatedCount === (answer?.updatedCount ?? updatedCount)
      ? []
      : [
          `${gallery}: ${answer?.updatedCount} were updated, not ${updatedCount}`,
        ];
  }

  #restore({
    backupId,
    receipts,
  }: Extract<Operation, { readonly kind: "restore" }>): void {
    const backup = this.#backups.get(backupId);
    if (backup === undefined) return;
    const then = new TortureModel();
    then.galleries = copyOf(backup.galleries);
    for (const [lane, operation] of backup.writes)
      if (receipts[String(lane)] === backup.step)
        then.apply({ lane, operation }, backup.step);
    for (const [name, entries] of then.galleries) {
      for (const [entryId, { identity, enrolledAtMs }] of entries)
        if (
          this.#forgotten.some(
            (one) =>
              one.gallery === name &&
              one.identity === identity &&
              enrolledAtMs <= one.atMs,
          )
        )
          entries.delete(entryId);
      this.galleries.set(name, entries);
    }
  }

  /** A gallery's entries; what has expired goes with any write. */
  #swept(gallery: string, step: number): Entries {
    let entries = this.galleries.get(gallery);
    if (entries === undefined)
      this.galleries.set(gallery, (entries = new Map()));
    for (const [entryId, { expiresAtMs }] of entries)
      if (expiresAtMs <= timeOf(step)) entries.delete(entryId);
    return entries;
  }
}

function isChosen(
  chosen: Chosen,
  entryId: string,
  { identity, cameraId }: KnownEntry,
): boolean {
  if ("entryIds" in chosen) return chosen.entryIds.includes(entryId);
  if ("identity" in chosen) return chosen.identity === identity;
  return chosen.identityIn === identity && chosen.cameraIn === cameraId;
}

/** Whether a gallery is there from the beginning to the end. */
export function isHome(gallery: string): boolean {
  return (homeGalleries as readonly string[]).includes(gallery);
}
