import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

import { FaissIndex, faissMissing, setIndexThreads } from "#index/faiss";

const tasks = "/proc/self/task";
// Looked up before the threads are counted: loading the addon starts none of them.
const skip =
  faissMissing()?.message ??
  (process.platform === "linux" ? false : "threads are counted in /proc");

/** Threads that run on one processor only and were not there before. */
function pinnedSince(before: ReadonlySet<string>): string[] {
  return readdirSync(tasks)
    .filter((task) => !before.has(task))
    .filter((task) => {
      const status = readFileSync(`${tasks}/${task}/status`, "utf8");
      return /^Cpus_allowed_list:\t\d+$/m.test(status);
    });
}

function niceOf(task: string): number {
  const stat = readFileSync(`${tasks}/${task}/stat`, "utf8");
  // proc(5): the name is in brackets, the nice value the 17th field behind it.
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
}

test(
  "the addon starts as many threads as it is told, each on one processor, and as many that stand back",
  {
    skip,
  },
  async () => {
    const before = new Set(readdirSync(tasks));
    setIndexThreads(3, true);
    const index = FaissIndex.create({ kind: "flat" }, 4);
    await index.add(Float64Array.of(1), Float32Array.of(1, 0, 0, 0));
    // Where the process has fewer than three processors, the third thread stays free.
    const processors = /^Cpus_allowed_list:\t(.*)$/m.exec(
      readFileSync("/proc/self/status", "utf8"),
    );
    const [first, last] = (processors?.[1] ?? "0").split("-").map(Number);
    const each = Math.min(3, (last ?? first) - first + 1);
    // A thread pins itself and stands back when it first runs, which on a busy machine is later.
    const usual = niceOf(String(process.pid));
    let counts: readonly number[] = [];
    const end = performance.now() + 10_000;
    while (
      !isDeepStrictEqual(counts, [each, each]) &&
      performance.now() < end
    ) {
      await setImmediate();
      const nice = pinnedSince(before).map(niceOf);
      const own = nice.filter((value) => value === usual);
      counts = [own.length, nice.length - own.length];
    }
    assert.deepEqual(counts, [each, each]);
    await index.close();
  },
);
