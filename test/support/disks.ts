import { spawnSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A disk of its own for one test. */
export interface Disk {
  /** Where it is mounted. */
  readonly folder: string;
  /** Leaves no byte of it, or of what is under it. */
  fill(): void;
  /** Gives all of that back. */
  empty(): Promise<void>;
  /** The file system finds an error and takes no more writes, until it is repaired. */
  fail(): void;
  /** Takes it away and brings it back, repaired where it failed; nobody has a file open. */
  repair(): void;
}

/** What kinds of disk there are. */
export type DiskKind =
  /** In memory, of a fixed size. */
  | "tmpfs"
  /** A file system on a device. */
  | "ext4"
  /** The same without a journal, on a device that has promised more than it has: what was written fails at the flush. */
  | "thin ext4";

const diskMiB = 64;
const chunk = Buffer.alloc(1 << 18, 0x5a);

/** Runs a command of the system. @throws {RangeError} it fails */
function run(command: string, ...given: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, given);
  if (status !== 0)
    throw new RangeError(
      `${command} ${given.join(" ")}: ${error?.message ?? stderr.toString().trim()}`,
    );
}

/** Why no disk of this kind can be mounted here; false: one can. */
export async function cannotMount(kind: DiskKind): Promise<string | false> {
  try {
    await onDisk(kind, () => Promise.resolve());
    return false;
  } catch (error) {
    return `no ${kind} can be mounted here: ${String(error)}`;
  }
}

/** Runs an action on a disk of its own, which is taken away afterwards. */
export async function onDisk<Result>(
  kind: DiskKind,
  action: (disk: Disk) => Promise<Result>,
): Promise<Result> {
  const parent = await mkdtemp(join(tmpdir(), "reid-disk-"));
  const folder = join(parent, "disk");
  const under = join(parent, "under");
  const device = join(under, "device");
  await mkdir(folder);
  await mkdir(under);
  /** What has been mounted, last first. */
  const mounted: string[] = [];
  const mount = (place: string, ...given: readonly string[]): void => {
    run("mount", ...given, place);
    mounted.unshift(place);
  };
  const mountDevice = () => mount(folder, "-o", "loop", device);
  try {
    if (kind === "tmpfs")
      mount(folder, "-t", "tmpfs", "-o", `size=${diskMiB}m`, "tmpfs");
    else {
      const thick = kind === "ext4" ? 2 * diskMiB : diskMiB;
      mount(under, "-t", "tmpfs", "-o", `size=${thick}m`, "tmpfs");
      run("truncate", "-s", `${diskMiB}m`, device);
      const journal = kind === "ext4" ? [] : ["-O", "^has_journal"];
      run("mkfs.ext4", "-q", "-F", "-m", "0", ...journal, device);
      mountDevice();
    }
    const filler = join(kind === "thin ext4" ? under : folder, "filler");
    return await action({
      folder,
      fill: () => fillDisk(filler),
      empty: () => rm(filler, { force: true }),
      fail: () => run("mount", "-o", "remount,abort", folder),
      repair: () => {
        run("umount", folder);
        mounted.shift();
        // 1: errors were found and repaired.
        const { status } = spawnSync("e2fsck", ["-p", device]);
        if (status !== 0 && status !== 1)
          throw new RangeError(`e2fsck -p ended with ${status}`);
        mountDevice();
      },
    });
  } finally {
    for (const place of mounted) spawnSync("umount", ["-l", place]);
    await rm(parent, { recursive: true, force: true });
  }
}

/** Writes until nothing more goes on it, down to the last byte. */
function fillDisk(path: string): void {
  const filler = openSync(path, "w");
  try {
    for (let bytes = chunk.length; bytes >= 1; bytes >>= 1)
      try {
        for (;;) writeSync(filler, chunk, 0, bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      }
  } finally {
    closeSync(filler);
  }
}
