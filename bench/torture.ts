// SIGKILL at random moments and at every call that changes a file, and the faults of a disk; with the model as judge.
//
//   make torture [KILLS=200] [SEED=1] [QUICK=1] [PART=kills,killed,torn,ENOSPC,EIO,EROFS,doubt,pages] [WORKERS=2]
import { availableParallelism } from "node:os";

import { randomStream } from "#core/random";

import {
  faultCalls,
  faultsMissing,
  type Fate,
} from "../test/support/torture-faults.js";
import { randomMoment, Torture } from "../test/support/torture-run.js";
import {
  answeredCalls,
  doubtfulCalls,
  liveWithFault,
  pageCalls,
  pointsOf,
  scriptedCalls,
  spread,
} from "../test/support/torture-sweep.js";
import { benchSeed, isQuick, writeReport, type BenchRow } from "./report.js";
import { endedRow, namelessRow, Tally } from "./torture-tally.js";

const kills = Number(process.env["KILLS"] ?? (isQuick ? "10" : "200"));
const pointsAtMost = isQuick ? 12 : Number.POSITIVE_INFINITY;
const workers = Number(process.env["WORKERS"] ?? availableParallelism());

/** Calls that a fault lasts: one, some (the disk then recovers), or as long as the run takes. */
const lengths = { once: 1, "for a while": 25, "for good": 1e9 } as const;

async function randomKills(): Promise<BenchRow[]> {
  const tally = new Tally();
  const random = randomStream(benchSeed, "torture kills");
  await Torture.over(async (torture) => {
    for (let kill = 0; kill < kills; kill++) {
      const life = await torture.live({
        ...{ seed: benchSeed, mode: "random", steps: 1e6 },
        kill: randomMoment(random),
        onCopy: random.uniform() < 0.5,
      });
      tally.add(life, `kill ${kill}`);
      // A loss would be told again at each kill.
      if (tally.isBad) return;
      tell("random moments", kill + 1, kills);
    }
  });
  const killed: BenchRow = {
    ...{ figure: "random moments: kills", value: tally.killed, unit: "kills" },
    bar: `≥ ${kills}`,
  };
  return tally.rows("random moments", `seed ${benchSeed}`, [killed]);
}

/** A fault at each of the scripted run's calls, or at so many as a quick run has; each in a folder of its own. */
async function sweep(
  does: Fate,
  { length, calls }: { length: number; calls: readonly string[] },
  tally: Tally,
): Promise<void> {
  const counted = await scriptedCalls(benchSeed, calls);
  const points = spread(pointsOf(counted, does), pointsAtMost, benchSeed);
  const waiting = [...points];
  let done = 0;
  const work = async (): Promise<void> => {
    for (let at = waiting.shift(); at !== undefined; at = waiting.shift()) {
      const life = await liveWithFault(benchSeed, { does, at, length, calls });
      const { call, path } = counted[at - 1];
      tally.add(life, `${does} at ${at} (${call} ${path})`);
      tell(`${does}, ${length} calls`, ++done, points.length);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
}

function tell(what: string, done: number, of: number): void {
  if (done % 20 === 0 || done === of)
    process.stderr.write(`torture: ${what}: ${done} of ${of}\n`);
}

async function ended(does: "kill" | "torn", figure: string) {
  const tally = new Tally();
  await sweep(does, { length: 1, calls: faultCalls }, tally);
  return tally.rows(figure, "open, write, fsync, rename, unlink, …");
}

async function answered(does: Fate): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const [how, length] of Object.entries(lengths)) {
    const tally = new Tally();
    await sweep(does, { length, calls: answeredCalls }, tally);
    const figure = `${does} ${how}`;
    const more = [endedRow(figure, tally), namelessRow(figure, tally)];
    rows.push(...tally.rows(figure, "not at the store's pages", more));
  }
  return rows;
}

/** The call is made, and its answer says that it was not. */
async function inDoubt(): Promise<BenchRow[]> {
  const tally = new Tally();
  await sweep("done-EIO", { length: 1, calls: doubtfulCalls }, tally);
  const figure = "done, and answered EIO";
  const more = [endedRow(figure, tally), namelessRow(figure, tally)];
  return tally.rows(figure, "write, fsync, rename, …", more);
}

async function pages(): Promise<BenchRow[]> {
  const tally = new Tally();
  for (const does of ["ENOSPC", "EIO"] as const)
    await sweep(does, { length: 1, calls: pageCalls }, tally);
  const figure = "a page of the store fails";
  const row: BenchRow = {
    ...{ figure: `${figure}: ended by a signal, or hung`, value: tally.ended },
    unit: "processes",
    note: "lmdb writes past the buffer of its message: docs/durability.md",
  };
  return tally.rows(figure, "ENOSPC and EIO, once", [row]);
}

/** What PART chooses from. */
const parts: Readonly<Record<string, () => Promise<BenchRow[]>>> = {
  kills: randomKills,
  killed: () => ended("kill", "killed at every call"),
  torn: () => ended("torn", "every write torn in half"),
  ENOSPC: () => answered("ENOSPC"),
  EIO: () => answered("EIO"),
  EROFS: () => answered("EROFS"),
  doubt: inDoubt,
  pages,
};

const wanted = (process.env["PART"] ?? Object.keys(parts).join(",")).split(",");
const unknown = wanted.find((name) => !(name in parts));
if (unknown !== undefined)
  throw new Error(
    `there is no part ${unknown}: ${Object.keys(parts).join(", ")}`,
  );
const cannot = faultsMissing();
if (cannot !== undefined) process.stderr.write(`no faults: ${cannot}\n`);
const rows: BenchRow[] = [];
for (const name of wanted)
  if (name === "kills" || cannot === undefined)
    rows.push(...(await parts[name]()));
await writeReport("torture", rows);
