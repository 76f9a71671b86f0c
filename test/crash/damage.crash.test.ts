import assert from "node:assert/strict";
import { cp, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { randomStream } from "#core/random";
import { stageBackup, writeBackup } from "#index/backup";

import {
  applyDamage,
  cutsOf,
  filesIn,
  flipsOf,
  outcomesOf,
  type Damage,
  type Outcome,
} from "../support/damage.js";
import { fill, openFolder } from "../support/damage-content.js";
import { inFolder } from "../support/galleries.js";

const seed = Number(process.env["REID_TORTURE_SEED"] ?? "1");
/** Bytes that are flipped in a file; ten times as many in the store's. */
const flips = Number(process.env["REID_TORTURE_FLIPS"] ?? "6");
const random = randomStream(seed, "damage");

/** Which files of a folder a kind of damage is done to, and what of them. */
async function damagesOf(
  folder: string,
  isWanted: (file: string) => boolean,
  count: number,
): Promise<readonly Damage[]> {
  const damages: Damage[] = [];
  for (const file of (await filesIn(folder)).filter(isWanted)) {
    const { size } = await stat(join(folder, file));
    damages.push(...cutsOf(file, size));
    damages.push(...flipsOf(file, [0, size], { random, count }));
  }
  return damages;
}

function told(damage: Damage, outcome: Outcome): string {
  return `${JSON.stringify(damage)}: ${JSON.stringify(outcome)}`;
}

describe("a data folder with damage on its disk", () => {
  let parent = "";
  let folder = "";
  before(async () => {
    parent = await mkdtemp(join(tmpdir(), "reid-damage-"));
    folder = join(parent, "data");
    const open = await openFolder(folder);
    await fill(open);
    await open.close();
  });
  after(() => rm(parent, { recursive: true }));

  test("in a snapshot rebuilds the index, says so, and finds what it found before", async () => {
    const damages = await damagesOf(
      folder,
      (file) => file.startsWith("snapshots/"),
      flips,
    );
    assert.ok(damages.length > 20, `${damages.length}`);
    const outcomes = await outcomesOf(folder, damages);
    outcomes.forEach((outcome, i) => {
      assert.equal(outcome.was, "same", told(damages[i], outcome));
      const said = outcome.lines.filter((line) => /is damaged/.test(line));
      assert.equal(said.length, 1, told(damages[i], outcome));
    });
  });

  test("in a file that only tells processes apart is none", async () => {
    const isLock = (file: string) =>
      file === "lock" || file === "store/lock.mdb";
    const damages = await damagesOf(folder, isLock, flips);
    const outcomes = await outcomesOf(folder, damages);
    outcomes.forEach((outcome, i) => {
      assert.equal(outcome.was, "same", told(damages[i], outcome));
    });
  });

  test("in the store ends no process, and loses no entry without saying so", async () => {
    const file = "store/data.mdb";
    const { size } = await stat(join(folder, file));
    const many = { random, count: 10 * flips };
    const damages = [
      ...cutsOf(file, size, 24),
      // The roots; then everything.
      ...flipsOf(file, [0, 168], many),
      ...flipsOf(file, [4096, 4096 + 168], many),
      ...flipsOf(file, [8192, size], many),
    ];
    const outcomes = await outcomesOf(folder, damages);
    const counts: Record<string, number> = {};
    outcomes.forEach((outcome, i) => {
      const { was, code } = outcome;
      const about = told(damages[i], outcome);
      assert.ok(!["ended", "lost", "changed"].includes(was), about);
      // The number of the format is a value too.
      if (was === "refused" && code !== "FORMAT_NEWER")
        assert.equal(code, "STORE_CORRUPT", about);
      if (was === "told" && code !== "")
        assert.equal(code, "STORE_CORRUPT", about);
      counts[was] = (counts[was] ?? 0) + 1;
    });
    assert.ok(counts["refused"] > 0, JSON.stringify(counts));
  });
});

describe("a backup with damage on its disk", () => {
  test("is refused with BACKUP_CORRUPT, whichever byte it is", () =>
    inFolder(async (folder) => {
      const data = join(folder, "data");
      const backups = join(folder, "backups");
      const open = await openFolder(data);
      await fill(open);
      const unreported = {
        signal: new AbortController().signal,
        report: () => undefined,
      };
      await writeBackup(
        backups,
        {
          store: open.store,
          galleries: [],
          bundlesOf: () => Promise.resolve([]),
        },
        {
          ...{ backupId: "b1", createdAtMs: 1, serverVersion: "0" },
          ...unreported,
        },
      );
      await open.close();
      const all = () => true;
      const damages = await damagesOf(join(backups, "b1"), all, flips);
      assert.ok(damages.length > 20, `${damages.length}`);
      const damaged = join(folder, "damaged");
      for (const damage of damages) {
        await rm(damaged, { recursive: true, force: true });
        await cp(backups, damaged, { recursive: true });
        await applyDamage(join(damaged, "b1"), damage);
        await assert.rejects(
          stageBackup(damaged, "b1", join(damaged, "staged"), unreported),
          { code: "BACKUP_CORRUPT" },
          JSON.stringify(damage),
        );
      }
    }));
});
