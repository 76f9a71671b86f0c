// SIGKILL at random moments and at every call that changes a file, and the faults of a disk; with the model as judge.
import { randomStream } from "#core/random";

import {
  faultCalls,
  faultsMissing,
  type Fate,
} from "../test/support/torture-faults.js";
import { Torture, type Life } from "../test/support/torture-run.js";
import {
  answeredCalls,
  liveWithFault,
  pageCalls,
  pointsOf,
  scriptedCalls,
  spread,
} from "../test/support/torture-sweep.js";
import { benchSeed, isQuick, writeReport, type BenchRow } from "./report.js";

const kills = Number(process.env["KILLS"] ?? (isQuick ? "10" : "200"));
const pointsAtMost = isQuick ? 12 : Number.POSITIVE_INFINITY;

/** Calls that a fault lasts: one, or as long as the run takes. */
const lengths = { once: 1, "for good": 1e9 } as const;

/** What has been counted over many lives. */
class Tally {
  lives = 0;
  killed = 0;
  acknowledged = 0;
  open = 0;
  refused = 0;
  lost = 0;
  doubled = 0;
  wrong = 0;
  nameless = 0;
  ended = 0;

  add(life: Life, about: string): void {
    const { lost, doubled, wrong } = life.verdict;
    this.lives++;
    this.acknowledged += life.acknowledged;
    this.open += life.open;
    this.refused += life.refusals.length;
    this.lost += lost.length;
    this.doubled += doubled.length;
    this.wrong += wrong.length;
    if (life.isHung) this.ended++;
    else if (life.signal === "SIGKILL") this.killed++;
    else if (life.signal !== null) this.ended++;
    const nameless = life.refusals.filter(({ code }) => code === "NONE");
    this.nameless += nameless.length;
    const told = [...lost, ...doubled, ...wrong].slice(0, 3);
    for (const line of told) process.stderr.write(`${about}: ${line}\n`);
    for (const { what, message } of nameless)
      process.stderr.write(`${about}: ${what}: ${message.split("\n")[0]}\n`);
  }
}

async function randomKills(tally: Tally): Promise<void> {
  const random = randomStream(benchSeed, "torture kills");
  await Torture.over(async (torture) => {
    for (let kill = 0; kill < kills; kill++) {
      const life = await torture.live({
        ...{ seed: benchSeed, mode: "random", steps: 1e6 },
        killAfterMs: random.between(0, 600),
        onCopy: random.uniform() < 0.5,
      });
      tally.add(life, `kill ${kill}`);
      // A loss would be told again at each kill.
      if (tally.lost + tally.doubled + tally.wrong > 0) return;
    }
  });
}

async function sweep(
  does: Fate,
  { length, calls }: { length: number; calls: readonly string[] },
  tally: Tally,
): Promise<void> {
  const counted = await scriptedCalls(benchSeed, calls);
  const points = pointsOf(counted, does);
  for (const at of spread(points, pointsAtMost, benchSeed)) {
    const life = await liveWithFault(benchSeed, { does, at, length, calls });
    const { call, path } = counted[at - 1];
    tally.add(life, `${does} at ${at} (${call} ${path})`);
  }
}

function rowsOf(
  figure: string,
  tally: Tally,
  note: string,
  more: readonly BenchRow[] = [],
): BenchRow[] {
  const none = { bar: "= 0" as const };
  return [
    {
      figure: `${figure}: lives`,
      value: tally.lives,
      unit: "processes",
      note: `${tally.killed} ended by SIGKILL; ${tally.open} operations unanswered, ${tally.refused} refused; ${note}`,
    },
    {
      figure: `${figure}: acknowledged`,
      value: tally.acknowledged,
      unit: "operations",
      note: "each looked for afterwards",
    },
    { figure: `${figure}: lost`, value: tally.lost, unit: "entries", ...none },
    {
      figure: `${figure}: doubled`,
      value: tally.doubled,
      unit: "entries",
      ...none,
    },
    {
      figure: `${figure}: half, or not as \`check\` and brute force have it`,
      value: tally.wrong,
      unit: "findings",
      ...none,
    },
    ...more,
  ];
}

const rows: BenchRow[] = [];
const random = new Tally();
await randomKills(random);
rows.push(
  ...rowsOf("random moments", random, `seed ${benchSeed}`, [
    {
      figure: "random moments: kills",
      value: random.killed,
      unit: "kills",
      bar: `≥ ${kills}`,
    },
  ]),
);

const cannot = faultsMissing();
if (cannot !== undefined) process.stderr.write(`no faults: ${cannot}\n`);
else {
  for (const does of ["kill", "torn"] as const) {
    const tally = new Tally();
    await sweep(does, { length: 1, calls: faultCalls }, tally);
    const what =
      does === "kill" ? "killed at every call" : "every write torn in half";
    rows.push(...rowsOf(what, tally, "open, write, fsync, rename, unlink, …"));
  }
  for (const does of ["ENOSPC", "EIO", "EROFS"] as const)
    for (const [how, length] of Object.entries(lengths)) {
      const tally = new Tally();
      await sweep(does, { length, calls: answeredCalls }, tally);
      rows.push(
        ...rowsOf(`${does} ${how}`, tally, "not at the store's pages", [
          {
            figure: `${does} ${how}: ended by a signal, or hung`,
            value: tally.ended,
            unit: "processes",
            bar: "= 0",
          },
          {
            figure: `${does} ${how}: failures without a code of their own`,
            value: tally.nameless,
            unit: "operations",
            bar: "= 0",
          },
        ]),
      );
    }
  const pages = new Tally();
  for (const does of ["ENOSPC", "EIO"] as const)
    await sweep(does, { length: 1, calls: pageCalls }, pages);
  rows.push(
    ...rowsOf("a page of the store fails", pages, "ENOSPC and EIO, once", [
      {
        figure: "a page of the store fails: ended by a signal, or hung",
        value: pages.ended,
        unit: "processes",
        note: "lmdb writes past the buffer of its message: docs/durability.md",
      },
    ]),
  );
}
await writeReport("torture", rows);
