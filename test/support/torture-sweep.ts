import { rm } from "node:fs/promises";

import {
  countedCalls,
  countingEnvironment,
  faultCalls,
  faultEnvironment,
  type CountedCall,
  type Fate,
  type Fault,
} from "./torture-faults.js";
import { scriptLength } from "./torture-plan.js";
import { Torture, type Life } from "./torture-run.js";

/** Calls by which LMDB writes its pages; its root goes by `pwrite-root`. */
export const pageCalls: readonly string[] = ["pwrite", "writev", "pwritev"];

/** Calls whose failure LMDB answers for; of the others its process may end (docs/durability.md). */
export const answeredCalls: readonly string[] = faultCalls.filter(
  (call) => !["open-store", "ftruncate", ...pageCalls].includes(call),
);

/** Calls that carry bytes: they can be torn. */
const carrying = [...pageCalls, "pwrite-root", "write", "fwrite", "copy"];

/** Calls that can be made and answer that they were not: what they did is in doubt. */
export const doubtfulCalls: readonly string[] = [
  ...["pwrite-root", "write", "fwrite", "copy", "fsync", "fdatasync"],
  ...["rename", "unlink", "rmdir", "mkdir"],
];

/** Which calls can meet a fate in earnest. */
const meeting: Readonly<Record<Fate, (call: string) => boolean>> = {
  kill: () => true,
  torn: (call) => carrying.includes(call),
  ENOSPC: (call) => [...carrying, "open", "mkdir", "rename"].includes(call),
  EDQUOT: (call) => carrying.includes(call),
  EIO: () => true,
  EROFS: () => true,
  "done-EIO": (call) => doubtfulCalls.includes(call),
};

/** Calls that change files in the scripted run, in their order. */
export async function scriptedCalls(
  seed: number,
  calls: readonly string[] = faultCalls,
): Promise<readonly CountedCall[]> {
  return Torture.over(async (torture) => {
    const log = `${torture.folder}-calls`;
    try {
      await torture.live({
        ...{ seed, mode: "script", steps: scriptLength },
        env: countingEnvironment(torture.folder, log, calls),
      });
      return await countedCalls(log);
    } finally {
      await rm(log, { force: true });
    }
  });
}

/**
 * The calls to be hit, counted from 1.
 *
 * The many small writes of one file through a buffer are one place but for the first, the middle and the last.
 */
export function pointsOf(
  calls: readonly CountedCall[],
  does: Fate,
): readonly number[] {
  const points: number[] = [];
  for (let first = 0; first < calls.length;) {
    const { call, path } = calls[first];
    let end = first + 1;
    while (
      call === "fwrite" &&
      calls[end]?.call === call &&
      calls[end]?.path === path
    )
      end++;
    if (meeting[does](call))
      points.push(
        ...new Set([first + 1, Math.ceil((first + 1 + end) / 2), end]),
      );
    first = end;
  }
  return points;
}

/** At most so many of the points, spread evenly; the first one differs by seed. */
export function spread(
  points: readonly number[],
  most: number,
  seed: number,
): readonly number[] {
  if (points.length <= most) return points;
  const stride = points.length / most;
  return Array.from(
    { length: most },
    (_, i) => points[Math.floor(i * stride + (seed % stride))],
  );
}

/** The scripted run in a folder of its own, with one fault. */
export async function liveWithFault(
  seed: number,
  fault: Omit<Fault, "under">,
): Promise<Life> {
  return Torture.over((torture) =>
    torture.live({
      ...{ seed, mode: "script", steps: scriptLength },
      env: faultEnvironment({ ...fault, under: torture.folder }),
    }),
  );
}
