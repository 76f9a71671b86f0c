import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { FaissIndex, faissMissing, setIndexThreads } from "#index/faiss";

const tasks = "/proc/self/task";
// Looked up before the threads are counted: loading the addon starts none of them.
const skip =
  faissMissing()?.message ??
  (process.platform === "linux" ? false : "threads are counted in /proc");

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
    const pinned = readdirSync(tasks)
      .filter((task) => !before.has(task))
      .filter((task) => {
        const status = readFileSync(`${tasks}/${task}/status`, "utf8");
        return /^Cpus_allowed_list:\t\d+$/m.test(status);
      });
    const nice = pinned.map((task) => {
      const stat = readFileSync(`${tasks}/${task}/stat`, "utf8");
      // proc(5): the name is in brackets, the nice value the 17th field behind it.
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
    });
    await index.close();
    // Where the process has fewer than three processors, the third thread stays free.
    const processors = /^Cpus_allowed_list:\t(.*)$/m.exec(
      readFileSync("/proc/self/status", "utf8"),
    );
    const [first, last] = (processors?.[1] ?? "0").split("-").map(Number);
    const each = Math.min(3, (last ?? first) - first + 1);
    const own = nice.filter((value) => value < 10);
    assert.deepEqual([own.length, nice.length - own.length], [each, each]);
  },
);
