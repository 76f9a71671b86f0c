import { readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { loadAddon } from "./native-addon.js";
import { StoreLockedError } from "./store-errors.js";

interface LockAddon {
  /** A descriptor that holds the lock; −1 where another process does. */
  lock(path: string): number;
  unlock(descriptor: number): void;
}

/** The exclusive right to a data folder, for as long as this process lives or until `release`. */
export interface FolderLock {
  release(): void;
}

/** The lock of one process, by what /proc says of it: its number and when it started. */
function identityOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may hold blanks; field 22 of the line is the start time.
    return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    return undefined;
  }
}

function holderOf(path: string): string {
  try {
    return `process ${readFileSync(path, "utf8").split(" ")[0]}`;
  } catch {
    return "another process";
  }
}

/** Whether the process named in a lock file still runs, on a machine without the addon. */
function isHeld(path: string): boolean {
  try {
    const recorded = readFileSync(path, "utf8");
    const pid = Number(recorded.split(" ")[0]);
    return pid > 0 && identityOf(pid) === recorded;
  } catch {
    return false;
  }
}

/** The process may live on, and open the folder again. */
function forgetHolder(path: string): void {
  try {
    writeFileSync(path, "");
  } catch {
    // The disk takes no writes: the folder is this process's until it ends.
  }
}

/**
 * Takes `<folder>/lock`.
 *
 * With flock(2), through an addon of a few lines, the kernel lets go of it however the process ends.
 * Where that is not built the file names its holder, and a holder that no longer runs has let go; two
 * processes that start in the same instant, or in different containers, are then not told apart.
 *
 * @throws {StoreLockedError} another process has it
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, "lock");
  let addon: LockAddon | undefined;
  try {
    addon = loadAddon("folder_lock") as LockAddon;
  } catch {
    addon = undefined;
  }
  if (addon === undefined) {
    if (isHeld(path)) throw new StoreLockedError(folder, holderOf(path));
    await writeFile(path, identityOf(process.pid) ?? String(process.pid));
    return { release: () => forgetHolder(path) };
  }
  const { lock, unlock } = addon;
  const descriptor = lock(path);
  if (descriptor < 0) throw new StoreLockedError(folder, holderOf(path));
  await writeFile(path, identityOf(process.pid) ?? String(process.pid));
  let held = true;
  return {
    release: () => {
      if (held) unlock(descriptor);
      held = false;
    },
  };
}
