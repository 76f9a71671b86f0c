import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";

import { DiskFailedError, DiskFullError, ReidError } from "./errors.js";
import {
  makeOwnFolder,
  removeTree,
  syncFile,
  syncFolder,
  writeFailure,
} from "./files.js";
import { copyPrefix, openingBytes } from "./store-disk.js";
import { StoreEnvironment } from "./store-environment.js";
import { StoreFullError, StoreReadOnlyError } from "./store-errors.js";
import { takeBack } from "./store-file.js";
import type { Remains } from "./store-writer.js";

/** The file that a store is in: read and written through an environment, which changes when a copy takes its place. */
export class StorePlace {
  readonly #folder: string;
  readonly #idle: () => Promise<unknown>;
  #environment: StoreEnvironment;
  /** Whether the disk took what was last written. */
  isWritable = true;
  #replacing: Promise<void> | undefined;
  /** Environments that a copy has replaced and that are still read. */
  readonly #closing = new Set<Promise<void>>();
  /** Where the present one was opened, if it is a copy's: its lock file is there. */
  #copy: string | undefined;
  /** What has to be set right before the next write; a number: the transaction that failed, and may be in the file. */
  #doubt:
    | "nothing"
    | "file's name"
    | "place of the file"
    | "writing thread"
    | number = "nothing";
  #recovering: Promise<void> | undefined;

  /**
   * @param folder  of the data: the file is in its `store/`
   * @param idle    waits for the transactions and copies under way
   */
  constructor(folder: string, idle: () => Promise<unknown>) {
    this.#folder = folder;
    this.#idle = idle;
    this.#environment = new StoreEnvironment(join(folder, "store"));
  }

  get environment(): StoreEnvironment {
    return this.#environment;
  }

  /** Whether a write can begin: no copy is under way, and nothing is left in doubt by the last failure. */
  get isReady(): boolean {
    return (
      this.#recovering === undefined &&
      this.#replacing === undefined &&
      this.#doubt === "nothing"
    );
  }

  /** Notes that the disk took no transaction, and what of it may be in the file. */
  doubt(remains: Remains): void {
    this.isWritable = false;
    if (remains === "unknown") this.#doubt = "writing thread";
    else if (remains !== "nothing") this.#doubt = remains;
  }

  /**
   * Waits for what keeps a write from beginning, or sets it right; `isReady` has to be asked again.
   *
   * @throws {StoreFullError} @throws {StoreReadOnlyError}
   */
  async settle(): Promise<void> {
    if (this.#recovering !== undefined) await this.#recovering;
    else if (this.#replacing !== undefined)
      await this.#replacing.catch(() => undefined);
    else if (this.#doubt !== "nothing")
      await (this.#recovering = this.#recover().finally(() => {
        this.#recovering = undefined;
      }));
  }

  /**
   * Puts a copy of the file in its place, and an environment of its own; reads go on, writes wait.
   *
   * @param copyTo  writes it into `store/` of the folder it is given
   */
  replace(copyTo: (folder: string) => Promise<void>): Promise<void> {
    this.#replacing = this.#replaceNow(copyTo).finally(() => {
      this.#replacing = undefined;
    });
    return this.#replacing;
  }

  async #replaceNow(copyTo: (folder: string) => Promise<void>): Promise<void> {
    await this.#idle();
    const path = join(this.#folder, "store");
    const copy = join(path, `${copyPrefix}${randomBytes(6).toString("hex")}`);
    const old = this.#environment;
    try {
      await copyTo(copy);
      const inner = join(copy, "store");
      const fresh = new StoreEnvironment(inner, path);
      try {
        for (const name of old.tables()) fresh.database(name);
        await this.#putInPlace(join(inner, "data.mdb"), join(path, "data.mdb"));
      } catch (error) {
        await fresh.close();
        throw error;
      }
      // The old file has no name any more: whatever comes, what is written to it would be lost.
      this.#environment = fresh;
    } catch (error) {
      // What is left of it the next start removes; where it may be the store's own file, nothing is touched.
      if (this.#doubt !== "place of the file")
        await removeTree(copy).catch(() => undefined);
      throw writeFailure(error, join(path, "data.mdb"));
    }
    // Ranges that are still read hold the old file open, which has no name any more.
    const leftover = this.#copy;
    this.#copy = copy;
    const closing = old
      .close()
      .then(() => (leftover === undefined ? undefined : removeTree(leftover)))
      // What it still holds goes with the process, and the leftover with the next start.
      .catch(() => undefined)
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    this.#doubt = "file's name";
    await this.#syncName();
  }

  /** The rename that is the commit; a disk may say that it failed, and have made it. */
  async #putInPlace(from: string, to: string): Promise<void> {
    try {
      await rename(from, to);
    } catch (error) {
      const place = await stat(from).then(
        () => "old" as const,
        (reason: unknown) =>
          (reason as NodeJS.ErrnoException).code === "ENOENT"
            ? ("new" as const)
            : ("unknown" as const),
      );
      if (place === "new") return;
      if (place === "unknown") this.#doubt = "place of the file";
      throw error;
    }
  }

  /** Nothing is acknowledged in a file whose name is not on the disk yet. */
  async #syncName(): Promise<void> {
    const path = join(this.#folder, "store");
    try {
      await syncFolder(path);
    } catch (error) {
      this.isWritable = false;
      throw new StoreReadOnlyError(this.#folder, String(error), {
        cause: error,
      });
    }
    this.#doubt = "nothing";
  }

  /**
   * Sets right what the last failure left in doubt.
   *
   * LMDB makes no more transactions after one whose root was not written, and nobody knows whether that one is in the
   * file. So the store goes on in a copy of the file, out of which it is taken back: what callers were told, and
   * what they hold in memory, is what is there.
   */
  #recover(): Promise<void> {
    const doubt = this.#doubt;
    if (doubt === "file's name") return this.#syncName();
    if (typeof doubt !== "number")
      return Promise.reject(
        new StoreReadOnlyError(this.#folder, `${doubt} lost, restart`),
      );
    const file = join(this.#folder, "store", "data.mdb");
    return this.replace(async (folder) => {
      const path = join(folder, "store");
      await makeOwnFolder(path);
      const copy = join(path, "data.mdb");
      await copyFile(file, copy, constants.COPYFILE_FICLONE);
      await takeBack(copy, doubt);
      await syncFile(copy);
      await syncFolder(path);
    }).catch((error: unknown) => {
      if (error instanceof DiskFullError)
        throw new StoreFullError(this.#folder, 0, openingBytes, {
          cause: error,
        });
      // Of the copy's place nobody wants to know: it is the store that takes no writes.
      if (error instanceof DiskFailedError)
        throw new StoreReadOnlyError(this.#folder, error.facts.cause, {
          cause: error,
        });
      throw error instanceof ReidError
        ? error
        : new StoreReadOnlyError(this.#folder, String(error), {
            cause: error,
          });
    });
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#replacing?.catch(() => undefined);
    await this.#idle();
    await Promise.allSettled([...this.#closing]);
    await this.#environment.close();
  }
}
