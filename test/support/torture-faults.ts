import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** What happens to a call of the kernel that changes files: torture-faults.c says how. */
export type Fate =
  "kill" | "torn" | "done-EIO" | "ENOSPC" | "EDQUOT" | "EIO" | "EROFS";

/** Calls that can be hit. */
export const faultCalls = [
  ...[
    "open",
    "open-store",
    "write",
    "pwrite",
    "pwrite-root",
    "writev",
    "pwritev",
  ],
  ...["fwrite", "copy"],
  ...["ftruncate", "fsync", "fdatasync", "rename", "unlink", "rmdir", "mkdir"],
] as const;

/** Which call is hit, and how. */
export interface Fault {
  /** Files below it count. */
  readonly under: string;
  readonly does: Fate;
  /** Counted from 1 over the calls below. */
  readonly at: number;
  /** So many from there on; default 1. */
  readonly length?: number;
  /** Names out of {@link faultCalls}; default all. */
  readonly calls?: readonly string[];
}

/** A call that was counted. */
export interface CountedCall {
  readonly call: string;
  /** From the folder on. */
  readonly path: string;
}

const source = fileURLToPath(
  new URL("../../../test/support/torture-faults.c", import.meta.url),
);

let library: string | undefined;
let missing: string | undefined;

/** Why faults cannot be made on this machine; undefined: they can. */
export function faultsMissing(): string | undefined {
  if (library !== undefined || missing !== undefined) return missing;
  if (process.platform !== "linux") return (missing = "faults need Linux");
  const path = join(mkdtempSync(join(tmpdir(), "reid-faults-")), "faults.so");
  const compiled = spawnSync(
    "cc",
    ["-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"],
    { encoding: "utf8" },
  );
  if (compiled.status === 0) library = path;
  else missing = `no C compiler: ${compiled.stderr || String(compiled.error)}`;
  return missing;
}

/** The environment of a process that is to meet a fault; `faultsMissing` has been asked before. */
export function faultEnvironment(fault: Fault): Record<string, string> {
  const { under, does, at, length = 1, calls = faultCalls } = fault;
  return {
    LD_PRELOAD: library ?? "",
    REID_FAULT_UNDER: under,
    REID_FAULT_DOES: does,
    REID_FAULT_AT: String(at),
    REID_FAULT_LENGTH: String(length),
    REID_FAULT_CALLS: calls.join(","),
  };
}

/** The environment of a process whose calls are only counted, into a file. */
export function countingEnvironment(
  under: string,
  log: string,
  calls: readonly string[] = faultCalls,
): Record<string, string> {
  return {
    LD_PRELOAD: library ?? "",
    REID_FAULT_UNDER: under,
    REID_FAULT_CALLS: calls.join(","),
    REID_FAULT_LOG: log,
  };
}

/** The calls that were counted, in their order. */
export async function countedCalls(
  log: string,
): Promise<readonly CountedCall[]> {
  const lines = (await readFile(log, "utf8")).split("\n").slice(0, -1);
  return lines
    .map((line) => {
      const [number, call, ...path] = line.split(" ");
      return { number: Number(number), call, path: path.join(" ") };
    })
    .sort((a, b) => a.number - b.number)
    .map(({ call, path }) => ({ call, path }));
}
