import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as after } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { randomStream } from "#core/random";

import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import {
  cannotTrace,
  eventsIn,
  StoreTrace,
  straceArguments,
} from "../support/system-calls.js";

const child = fileURLToPath(
  new URL("../support/enrolling-child.js", import.meta.url),
);
const kills = 20;

/** When a child is killed: so long after so many acknowledgements. */
interface End {
  readonly acknowledged: number;
  readonly laterMs: number;
}

/** Starts the child, kills it when its time has come, and gives the lines that it wrote whole. */
async function linesUntilKilled(
  folder: string,
  round: number,
  { acknowledged, laterMs }: End,
): Promise<string[]> {
  const running = spawn(process.execPath, [child, folder, String(round)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  running.stdout.setEncoding("utf8");
  const ready = new Promise<void>((resolve) => {
    running.stdout.on("data", (chunk: string) => {
      text += chunk;
      const acks = text.split("\nack ").length - 1;
      if (text.includes("ready") && acks >= acknowledged) resolve();
    });
  });
  const closed = new Promise<NodeJS.Signals | null>((resolve) => {
    running.on("close", (_code, signal) => {
      resolve(signal);
    });
  });
  await Promise.race([ready, closed]);
  await after(laterMs);
  running.kill("SIGKILL");
  assert.equal(await closed, "SIGKILL", "the child ended before it was killed");
  return text.split("\n").slice(0, -1);
}

describe("gallery killed while enrolling", () => {
  test("keeps every acknowledged entry, none twice, with its own feature", () =>
    inFolder(async (folder) => {
      const random = randomStream(11, "kills");
      const acknowledged = new Map<string, number>();
      for (let round = 0; round < kills; round++) {
        const end = {
          acknowledged: random.below(60),
          laterMs: Math.round(random.between(0, 30)),
        };
        for (const line of await linesUntilKilled(folder, round, end)) {
          const [word, entryId, sequence] = line.split(" ");
          if (word === "ack") acknowledged.set(entryId, Number(sequence));
        }
        const open = await openGalleries(folder);
        const gallery = await open.galleries.get("door");
        const { entries } = await gallery.listEntries({
          pageSize: 1e9,
          view: "feature",
        });
        const found = new Map(entries.map((entry) => [entry.entryId, entry]));
        assert.equal(found.size, entries.length, "an entry is there twice");
        for (const [entryId, sequence] of acknowledged) {
          const entry = found.get(entryId);
          assert.equal(
            entry?.sequence,
            sequence,
            `${entryId} of round ${round}`,
          );
        }
        for (const { entryId, feature } of entries)
          assert.deepEqual(feature, featureNamed(entryId, 32));
        await open.close();
      }
      assert.ok(acknowledged.size > 100, `only ${acknowledged.size} entries`);
    }));
});

describe("gallery under strace", { skip: cannotTrace }, () => {
  test("flushes the store to disk before each acknowledgement", () =>
    inFolder(async (folder) => {
      const trace = join(folder, "trace");
      const run = spawnSync(
        "strace",
        straceArguments(trace, [
          ...[process.execPath, child],
          ...[join(folder, "data"), "0", "10"],
        ]),
        { encoding: "utf8" },
      );
      assert.equal(run.status, 0, run.stderr);
      const store = new StoreTrace();
      let flushed = "";
      let commits = 0;
      let acknowledgements = 0;
      for (const event of await eventsIn(trace)) {
        const transaction = store.take(event);
        if (transaction !== undefined) {
          flushed += transaction.bytes.toString("latin1");
          commits++;
        }
        const { what, call } = event;
        if (call.descriptor !== 1 || what !== "begins") continue;
        for (const [, entryId] of call.bytes
          .toString()
          .matchAll(/ack (\S+) /g)) {
          assert.ok(flushed.includes(entryId), `not flushed: ${entryId}`);
          acknowledgements++;
        }
      }
      // Four callers of ten calls share a commit at most; each call is of three entries on average.
      assert.equal(acknowledgements, 120);
      assert.ok(commits > 10, `${commits} commits`);
    }));
});
