import { join } from "node:path";

import type { Store } from "#core/store";

import type { GalleryIndex } from "./gallery-index.js";
import type { GalleryRecord } from "./gallery-records.js";
import { deleteSnapshots, saveSnapshot } from "./snapshot.js";

/** Where a gallery's snapshots are: by its number, which is never used again. */
export function snapshotFolder(
  store: Pick<Store, "folder">,
  { number }: Pick<GalleryRecord, "number">,
): string {
  return join(store.folder, "snapshots", String(number));
}

/** What the last snapshot holds. */
export interface SnapshotState {
  /** The gallery's last write in it; 0: there is none. */
  readonly sequence: number;
  /** Milliseconds since 1970; undefined: there is none. */
  readonly takenAtMs: number | undefined;
}

/**
 * The snapshots of one gallery's index, and whatever else takes the index away from under them: one after
 * another.
 */
export class GallerySnapshots {
  readonly #folder: string;
  #state: SnapshotState;
  #mustCompact = false;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param state  of the snapshot that the index was loaded from */
  constructor(folder: string, state: SnapshotState) {
    this.#folder = folder;
    this.#state = state;
  }

  get state(): SnapshotState {
    return this.#state;
  }

  /** Runs an action after the ones before it have ended, however they ended. */
  inTurn<Result>(action: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn.then(action);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Whether the index holds features that no snapshot may have: one waits for the index's compaction. */
  get mustCompact(): boolean {
    return this.#mustCompact;
  }

  /** Removes every snapshot, and keeps what was removed from the index out of the next. Within a turn. */
  async forget(): Promise<void> {
    this.#mustCompact = true;
    await this.remove();
  }

  /** Compacts the index where something was forgotten in it. Within a turn. */
  async compact(index: GalleryIndex): Promise<void> {
    if (!this.#mustCompact) return;
    // The entries that wait for the index may have been forgotten on their way.
    await index.room(0);
    await index.compact();
    this.#mustCompact = false;
  }

  /** Waits until the index holds the gallery's last write and saves it; nothing where that is saved. Within a turn. */
  async save(
    index: GalleryIndex,
    { name, sequence }: Pick<GalleryRecord, "name" | "sequence">,
    nowMs: number,
  ): Promise<void> {
    if (sequence === this.#state.sequence) return;
    await this.compact(index);
    await index.indexed(sequence);
    await saveSnapshot(this.#folder, index.main, { name, sequence });
    this.#state = { sequence, takenAtMs: nowMs };
  }

  /** Removes every snapshot. Within a turn. */
  async remove(): Promise<void> {
    this.#state = { sequence: 0, takenAtMs: undefined };
    await deleteSnapshots(this.#folder);
  }
}
