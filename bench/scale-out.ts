// What galleries on PostgreSQL and Milvus cost, at two sizes: the figures that docs/scale-out.md computes a city from.
// After `make scale-out-up`; one server, everything on this machine. CPU time is what the processes used, so that it
// says something on a busy machine too.
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";

import { systemClock } from "#core/clock";
import { silentLog } from "#core/log";
import { Postgres } from "#core/postgres";
import type { Gallery } from "#index/galleries";
import type { SearchRequest } from "#index/gallery-types";
import { hnswDefaults } from "#index/index-kinds";
import { ScaledGalleries } from "#index/scaled-galleries";

import { clusteredFeatures, DIMENSION, readRows } from "./index-data.js";
import { isQuick, median, writeReport, type BenchRow } from "./report.js";

const sizes = isQuick ? [2_000, 4_000] : [10_000, 30_000];
const [, largest] = sizes;
const cameras = 100;
const searches = isQuick ? 20 : 100;
const callers = 16;
const connections = 16;
const root = join("out", "peers", "scale-out");
const url = new URL(
  process.env["REID_TEST_POSTGRES"] ??
    "postgres://reid@127.0.0.1:54329/postgres",
);
const address = process.env["REID_TEST_MILVUS"] ?? "127.0.0.1:19539";

const rows: BenchRow[] = [];
const note = (size: number) => `${size} entries`;

/** A process and what it has started; Linux. */
async function familyOf(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  const family = [pid];
  for (const task of tasks) {
    const path = `/proc/${pid}/task/${task}/children`;
    const children = await readFile(path, "utf8").catch(() => "");
    for (const child of children.split(" ").filter((one) => one !== ""))
      family.push(...(await familyOf(Number(child))));
  }
  return family;
}

/** Seconds of CPU that a process and its children have used, those that ended too. */
async function cpuOf(pid: number): Promise<number> {
  let ticks = 0;
  for (const one of await familyOf(pid)) {
    const text = await readFile(`/proc/${one}/stat`, "utf8").catch(() => ") ");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    // Fields 14 to 17 of proc(5), counted from the state, which is the third.
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks / 100;
}

/** Bytes in memory of a process and its children. */
async function memoryOf(pid: number): Promise<number> {
  let pages = 0;
  for (const one of await familyOf(pid)) {
    const text = await readFile(`/proc/${one}/statm`, "utf8").catch(
      () => "0 0",
    );
    pages += Number(text.split(" ")[1]);
  }
  return pages * 4096;
}

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const one of found)
    if (one.isFile())
      bytes += await stat(join(one.parentPath, one.name)).then(
        ({ size }) => size,
        () => 0,
      );
  return bytes;
}

const pidIn = async (path: string) =>
  Number((await readFile(join(root, path), "utf8")).split("\n")[0]);
const pids = {
  milvus: await pidIn("milvus.pid"),
  postgres: await pidIn("postgres/data/postmaster.pid"),
};

/** Runs work, and gives seconds and CPU seconds of each part. */
async function cost(work: () => Promise<void>) {
  const before = {
    milvus: await cpuOf(pids.milvus),
    postgres: await cpuOf(pids.postgres),
    server: process.cpuUsage(),
  };
  const started = systemClock.monotonic();
  await work();
  const seconds = (systemClock.monotonic() - started) / 1000;
  const { user, system } = process.cpuUsage(before.server);
  return {
    seconds,
    server: (user + system) / 1e6,
    postgres: (await cpuOf(pids.postgres)) - before.postgres,
    milvus: (await cpuOf(pids.milvus)) - before.milvus,
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = systemClock.monotonic();
  await work();
  return systemClock.monotonic() - started;
}

const data = await clusteredFeatures(largest);
const features = await readRows(data.rows);
const queries = await readRows(data.queries);
const row = (i: number) =>
  features.subarray(i * DIMENSION, (i + 1) * DIMENSION);
const query = (i: number) =>
  queries.subarray(
    (i % data.queryCount) * DIMENSION,
    ((i % data.queryCount) + 1) * DIMENSION,
  );
const capturedAtUs = (i: number) => 1_700_000_000_000_000 + i * 1000;
const enrollment = (i: number) => ({
  entryId: `entry-${String(i).padStart(9, "0")}`,
  identity: `identity-${Math.floor(i / 20)}`,
  cameraId: `camera-${i % cameras}`,
  trackId: `track-${Math.floor(i / 5)}`,
  capturedAtUs: capturedAtUs(i),
  expiresAtUs: 4_000_000_000_000_000,
  feature: row(i),
});

async function bulk(gallery: Gallery, from: number, to: number) {
  let next = from;
  await Promise.all(
    [0, 1, 2, 3].map(async () => {
      while (next < to) {
        const start = next;
        next = Math.min(to, start + 256);
        await gallery.enroll(
          Array.from({ length: next - start }, (_, i) => enrollment(start + i)),
        );
      }
    }),
  );
}

const name = `reid_bench_${randomBytes(4).toString("hex")}`;
const server = await Postgres.open({ url: url.href, connections: 1 });
await server.query(`CREATE DATABASE ${name}`);
url.pathname = `/${name}`;
const observer = await Postgres.open({ url: url.href, connections: 1 });
const galleries = await ScaledGalleries.open({
  postgres: { url: url.href, connections },
  milvus: { address },
  clock: systemClock,
  log: silentLog,
});
let most = 0;
let counting: NodeJS.Timeout | undefined;
try {
  const spec = { dimension: DIMENSION, index: hnswDefaults };
  const model = { name: "external", version: 1 };
  const gallery = await galleries.create({ name: "door", model, ...spec });
  const indexed = () =>
    gallery.search({
      queries: query(0),
      k: 1,
      freshness: "indexed",
      minSequence: gallery.describe().sequence,
    });
  const wal = async () => {
    const [{ bytes }] = await observer.query<{ bytes: number }>(
      "SELECT (pg_current_wal_lsn() - '0/0')::bigint AS bytes",
    );
    return bytes;
  };
  const memoryBefore = await memoryOf(pids.milvus);
  const diskBefore = await sizeOf(join(root, "milvus"));
  let done = 0;
  counting = setInterval(() => {
    void observer
      .query<{ count: number }>(
        "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database()",
      )
      .then(
        ([{ count }]) => (most = Math.max(most, count - 1)),
        () => undefined,
      );
  }, 100);
  for (const size of sizes) {
    const walBefore = await wal();
    let acknowledged = 0;
    const used = await cost(async () => {
      acknowledged = await timed(() => bulk(gallery, done, size));
      await indexed();
    });
    const count = size - done;
    done = size;
    rows.push(
      {
        figure: "bulk enrolment, acknowledged",
        value: (count / acknowledged) * 1000,
        unit: "entries/s",
        note: note(size),
      },
      {
        figure: "bulk enrolment, in Milvus",
        value: count / used.seconds,
        unit: "entries/s",
        note: note(size),
      },
      {
        figure: "WAL of PostgreSQL",
        value: ((await wal()) - walBefore) / count,
        unit: "bytes/entry",
        note: note(size),
      },
    );
    for (const part of ["server", "postgres", "milvus"] as const)
      rows.push({
        figure: `bulk enrolment, CPU of ${part}`,
        value: (used[part] / count) * 1e6,
        unit: "µs/entry",
        note: note(size),
      });
    await gallery.rebuild();
    await measureSearches(gallery, size);
  }
  await measureWrites(gallery);
  rows.push({
    figure: "connections at once",
    value: most,
    unit: "connections",
    note: `one server, pool of ${connections}, ${callers} callers`,
  });
  await observer.query("VACUUM ANALYZE");
  for (const table of ["entries", "identities", "outbox"]) {
    const [of] = await observer.query<{
      heap: number;
      toast: number;
      indexes: number;
    }>(
      `SELECT pg_relation_size($1::regclass) AS heap, pg_indexes_size($1::regclass) AS indexes,
         pg_table_size($1::regclass) - pg_relation_size($1::regclass) AS toast`,
      [table],
    );
    for (const [part, bytes] of Object.entries(of))
      rows.push({
        figure: `PostgreSQL, ${table}, ${part}`,
        value: bytes / done,
        unit: "bytes/entry",
      });
  }
  rows.push(
    {
      figure: "Milvus, memory",
      value: ((await memoryOf(pids.milvus)) - memoryBefore) / done,
      unit: "bytes/entry",
      note: "two rebuilds included: an upper bound",
    },
    {
      figure: "Milvus, disk",
      value: ((await sizeOf(join(root, "milvus"))) - diskBefore) / done,
      unit: "bytes/entry",
      note: "log, binlogs and indexes of two rebuilds, before garbage is collected",
    },
  );
  const rebuilt = await cost(() => gallery.rebuild());
  rows.push({
    figure: "a collection filled and indexed anew",
    value: done / rebuilt.seconds,
    unit: "entries/s",
    note: note(done),
  });
  await measureRecall(gallery, done, "indexed anew");
  // The oldest leave together, as they do when their time is over; after a checkpoint every page is logged whole.
  await observer.query("CHECKPOINT");
  const walBefore = await wal();
  const old = { startUs: capturedAtUs(0), endUs: capturedAtUs(done / 4) };
  const removed = await cost(async () => {
    await gallery.deleteEntries({ filter: { captured: old } });
    await indexed();
  });
  rows.push({
    figure: "WAL of PostgreSQL, an entry that leaves",
    value: ((await wal()) - walBefore) / (done / 4),
    unit: "bytes/entry",
    note: `${done / 4} entries, the oldest, after a checkpoint`,
  });
  for (const part of ["server", "postgres", "milvus"] as const)
    rows.push({
      figure: `an entry that leaves, CPU of ${part}`,
      value: (removed[part] / (done / 4)) * 1e6,
      unit: "µs/entry",
      note: `${done / 4} entries`,
    });
  await galleries.delete("door");
} finally {
  clearInterval(counting);
  await galleries.close();
  await observer.close();
  await server.query(`DROP DATABASE ${name} WITH (FORCE)`);
  await server.close();
}
await writeReport("scale-out", rows);

async function idsFound(
  gallery: Gallery,
  i: number,
  more: Partial<SearchRequest> = {},
): Promise<readonly string[]> {
  const request = { queries: query(i), k: 10, ...more };
  const { results } = await gallery.search(request);
  return results[0].hits.map(({ entry }) => entry.entryId);
}

async function measureSearches(gallery: Gallery, size: number) {
  const cases: Readonly<Record<string, Partial<SearchRequest>>> = {
    "default (Strong)": {},
    "INDEXED (Bounded)": { freshness: "indexed" },
    "a filter that keeps 1 %": { filter: { cameraIn: ["camera-7"] } },
    EXACT: { mode: "exact" },
  };
  for (const [label, more] of Object.entries(cases)) {
    const count = label === "EXACT" ? searches / 10 : searches;
    const times: number[] = [];
    const used = await cost(async () => {
      for (let i = 0; i < count; i++)
        times.push(await timed(() => idsFound(gallery, i, more)));
    });
    times.sort((a, b) => a - b);
    rows.push(
      {
        figure: `search, ${label}, median`,
        value: median(times),
        unit: "ms",
        note: `${note(size)}, one at a time`,
      },
      {
        figure: `search, ${label}, p90`,
        value: times[Math.floor(times.length * 0.9)],
        unit: "ms",
        note: note(size),
      },
    );
    for (const part of ["server", "postgres", "milvus"] as const)
      rows.push({
        figure: `search, ${label}, CPU of ${part}`,
        value: (used[part] / count) * 1000,
        unit: "ms/search",
        note: note(size),
      });
  }
  await measureRecall(gallery, size, "as it was enrolled");
}

/** Of the approximate search, whose index Milvus builds of what it has flushed. */
async function measureRecall(gallery: Gallery, size: number, when: string) {
  let recall = 0;
  const count = searches / 5;
  for (let i = 0; i < count; i++)
    recall += recallAt(
      await idsFound(gallery, i),
      await idsFound(gallery, i, { mode: "exact" }),
    );
  rows.push({
    figure: `recall@10, ${when}`,
    value: recall / count,
    unit: "1",
    against: "mode EXACT",
    note: note(size),
  });
}

function recallAt(found: readonly string[], wanted: readonly string[]) {
  return wanted.filter((id) => found.includes(id)).length / wanted.length;
}

async function measureWrites(gallery: Gallery) {
  const single = async (count: number, at: number) => {
    const times: number[] = [];
    const seconds =
      (await timed(() =>
        Promise.all(
          Array.from({ length: at }, async (_, caller) => {
            for (let i = 0; i < count; i++) {
              const id = `single-${at}-${caller}-${i}`;
              const one = { ...enrollment(i), entryId: id };
              times.push(await timed(() => gallery.enroll([one])));
            }
          }),
        ),
      )) / 1000;
    rows.push(
      {
        figure: `single enrolments, ${at} at once`,
        value: times.length / seconds,
        unit: "entries/s",
      },
      {
        figure: `single enrolments, ${at} at once, median`,
        value: median(times),
        unit: "ms",
      },
    );
  };
  await single(searches, 1);
  await single(Math.ceil(searches / 2), callers);
  const updates: number[] = [];
  const deletions: number[] = [];
  for (let i = 0; i < searches / 5; i++) {
    const selector = { entryIds: [`single-1-0-${i}`] };
    updates.push(
      await timed(() => gallery.updateEntries(selector, { identity: "other" })),
    );
    deletions.push(await timed(() => gallery.deleteEntries(selector)));
  }
  rows.push(
    {
      figure: "update of an entry, median",
      value: median(updates),
      unit: "ms",
    },
    {
      figure: "deletion of an entry, median",
      value: median(deletions),
      unit: "ms",
    },
  );
}
