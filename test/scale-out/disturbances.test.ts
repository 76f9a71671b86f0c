import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { after, describe, test } from "node:test";

import { systemClock } from "#core/clock";
import { ReidError } from "#core/errors";
import { Postgres } from "#core/postgres";
import type { Gallery } from "#index/galleries";
import { Milvus } from "#index/milvus";
import {
  ScaledGalleries,
  type ScaledGalleriesOptions,
} from "#index/scaled-galleries";
import { collectionOf } from "#index/scaled-records";
import { locks } from "#index/scaled-schema";

import { featureNamed } from "../support/galleries.js";
import { inDatabase, optionsOf, skipScaled } from "../support/scaled.js";
import { disturb, skipDisturbed } from "../support/services.js";

const dimension = 16;
const spec = {
  name: "door",
  model: { name: "external", version: 1 },
  dimension,
} as const;

/** Galleries of several servers on one pair of services, and what they warn of; the gallery is deleted at the end. */
function onServers(
  count: number,
  action: (
    servers: readonly ScaledGalleries[],
    lines: readonly string[],
  ) => Promise<void>,
  settings: Partial<ScaledGalleriesOptions> = {},
): Promise<void> {
  return inDatabase(async (services) => {
    const lines: string[] = [];
    const servers: ScaledGalleries[] = [];
    try {
      for (let i = 0; i < count; i++) {
        const warn = (line: string) => lines.push(line);
        servers.push(
          await ScaledGalleries.open({
            ...optionsOf(services, systemClock),
            log: { info: () => undefined, warn },
            ...settings,
          }),
        );
      }
      await servers[0].create(spec);
      await action(servers, lines);
      await servers[0].delete("door");
    } finally {
      for (const one of servers) await one.close();
    }
  });
}

async function enroll(
  gallery: Gallery,
  names: readonly string[],
): Promise<readonly number[]> {
  const { results } = await gallery.enroll(
    names.map((entryId) => ({
      entryId,
      feature: featureNamed(entryId, dimension),
    })),
  );
  return results.map(({ sequence }) => sequence);
}

const named = (prefix: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`);

/** The entry nearest to one's feature, from the index alone. */
async function nearestInIndex(
  gallery: Gallery,
  entryId: string,
  minSequence: number,
): Promise<string | undefined> {
  const { results } = await gallery.search({
    queries: featureNamed(entryId, dimension),
    k: 1,
    freshness: "indexed",
    minSequence,
  });
  return results[0].hits[0]?.entry.entryId;
}

/** Entries that may wait for Milvus, where that matters. */
const tail = 12;

const isGone = (line: string): boolean => line.includes("is gone from Milvus");

/** Searches until Milvus answers. */
async function untilSearched(gallery: Gallery, entryId: string): Promise<void> {
  for (;;)
    try {
      const { results } = await gallery.search({
        queries: featureNamed(entryId, dimension),
        k: 1,
      });
      assert.equal(results[0].hits[0].entry.entryId, entryId);
      return;
    } catch (error) {
      const isDown =
        error instanceof ReidError && error.code === "MILVUS_UNAVAILABLE";
      if (!isDown) throw error;
      await delay(100);
    }
}

/** What comes of an enrolment, once the database is there: `ok` or the reason. */
async function outcomeOf(gallery: Gallery, entryId: string): Promise<string> {
  for (;;)
    try {
      await enroll(gallery, [entryId]);
      return "ok";
    } catch (error) {
      assert.ok(error instanceof ReidError, String(error));
      if (error.code !== "DATABASE_UNAVAILABLE") return error.code;
      await delay(20);
    }
}

describe("while Milvus", { skip: skipDisturbed }, () => {
  // A case that failed half-way must not take the next along.
  after(async () => {
    await disturb("milvus-thaw").catch(() => undefined);
    await disturb("milvus-start").catch(() => undefined);
  });

  test("is dead writes are acknowledged and reads served, and all of it comes to it when it is back", () =>
    onServers(2, async ([one, other], lines) => {
      const gallery = await one.get("door");
      await enroll(gallery, named("before", 40));
      await disturb("milvus-kill");
      await enroll(gallery, named("meanwhile", 30));
      await gallery.deleteEntries({ entryIds: named("before", 5) });
      assert.equal(
        (await gallery.getEntry("meanwhile7")).entryId,
        "meanwhile7",
      );
      assert.ok(
        gallery.describe().indexedSequence < gallery.describe().sequence,
      );
      await assert.rejects(
        gallery.search({ queries: featureNamed("before9", dimension), k: 1 }),
        { code: "MILVUS_UNAVAILABLE" },
      );
      await disturb("milvus-start");
      const { sequence } = gallery.describe();
      const seen = await other.get("door");
      await untilSearched(seen, "before9");
      for (const entryId of [...named("meanwhile", 30), "before5"])
        assert.equal(await nearestInIndex(seen, entryId, sequence), entryId);
      for (const entryId of named("before", 5))
        assert.notEqual(await nearestInIndex(seen, entryId, sequence), entryId);
      assert.ok(!lines.some(isGone), "its data survive a kill");
    }));

  test("is dead a full tail refuses writes, and takes them again when it is back", () =>
    onServers(
      1,
      async ([one]) => {
        const gallery = await one.get("door");
        const [first] = await enroll(gallery, ["before"]);
        assert.equal(await nearestInIndex(gallery, "before", first), "before");
        await disturb("milvus-kill");
        const taken: string[] = [];
        for (let i = 0; ; i++)
          try {
            await enroll(gallery, [`e${i}`]);
            taken.push(`e${i}`);
          } catch (error) {
            assert.ok(error instanceof ReidError, String(error));
            assert.equal(error.code, "MILVUS_UNAVAILABLE", error.message);
            break;
          }
        // The write that goes beyond it still finds room.
        assert.equal(taken.length, tail + 1);
        assert.equal((await gallery.getEntry("e3")).entryId, "e3");
        await disturb("milvus-start");
        await untilSearched(gallery, "before");
        const [sequence] = await enroll(gallery, ["after"]);
        for (const entryId of [...taken, "after"])
          assert.equal(
            await nearestInIndex(gallery, entryId, sequence),
            entryId,
          );
      },
      { tail },
    ));

  test("hangs, searches that wait for it keep nobody else waiting, and find it when it goes on", () =>
    onServers(1, async ([one]) => {
      const gallery = await one.get("door");
      await enroll(gallery, named("e", 20));
      await untilSearched(gallery, "e3");
      await disturb("milvus-freeze");
      // More than there are connections.
      const searches = named("e", 20).map((entryId) =>
        untilSearched(gallery, entryId),
      );
      await delay(500);
      for (let i = 0; i < 20; i++) {
        await enroll(gallery, [`meanwhile${i}`]);
        assert.equal((await gallery.getEntry(`e${i}`)).entryId, `e${i}`);
      }
      const { entries } = await gallery.listEntries({ pageSize: 100 });
      assert.equal(entries.length, 40);
      await disturb("milvus-thaw");
      await Promise.all(searches);
      const { sequence } = gallery.describe();
      assert.equal(
        await nearestInIndex(gallery, "meanwhile7", sequence),
        "meanwhile7",
      );
    }));

  test("hangs, what a deleted gallery has left in it costs no connection more from second to second", () =>
    inDatabase(async (services) => {
      const options = optionsOf(services, systemClock);
      const galleries = await ScaledGalleries.open({
        ...options,
        postgres: { ...options.postgres, connections: 4 },
      });
      try {
        const gallery = await galleries.create(spec);
        await galleries.create({ ...spec, name: "hall" });
        await disturb("milvus-freeze");
        const deleted = galleries.delete("hall");
        // Longer than one a second would last.
        await delay(6000);
        for (const entryId of named("meanwhile", 5)) {
          await enroll(gallery, [entryId]);
          assert.equal((await gallery.getEntry(entryId)).entryId, entryId);
        }
        await disturb("milvus-thaw");
        await deleted;
        const left = await galleries.postgres.query(
          "SELECT gallery FROM dropped UNION SELECT gallery FROM dropped_collections",
        );
        assert.deepEqual(left, []);
        await galleries.delete("door");
      } finally {
        await disturb("milvus-thaw");
        await galleries.close();
      }
    }));

  test("has lost everything its collections are filled again while servers serve", () =>
    onServers(2, async ([one, other], lines) => {
      const gallery = await one.get("door");
      await enroll(gallery, named("e", 300));
      await disturb("milvus-kill");
      await disturb("milvus-empty");
      await disturb("milvus-start");
      const seen = await other.get("door");
      // The first search finds nothing to search in; what comes of it is the collection.
      await untilSearched(seen, "e7");
      const { sequence } = seen.describe();
      for (const entryId of named("e", 300).filter((_, i) => i % 29 === 0))
        assert.equal(await nearestInIndex(seen, entryId, sequence), entryId);
      const [next] = await enroll(gallery, ["later"]);
      assert.equal(await nearestInIndex(seen, "later", next), "later");
      assert.ok(lines.some(isGone));
    }));
});

describe("a server that starts", { skip: skipScaled }, () => {
  test("gives Milvus again what it was given and has lost", () =>
    inDatabase(async (services) => {
      const lines: string[] = [];
      const options = {
        ...optionsOf(services, systemClock),
        log: {
          info: () => undefined,
          warn: (line: string) => lines.push(line),
        },
      };
      const first = await ScaledGalleries.open(options);
      const gallery = await first.create(spec);
      await enroll(gallery, named("e", 50));
      assert.equal(await nearestInIndex(gallery, "e3", 50), "e3");
      const [{ id, number }] = await first.postgres.query<{
        id: string;
        number: number;
      }>("SELECT id, number FROM deployment, galleries");
      await first.close();
      const milvus = await Milvus.open({ address: services.milvus });
      await milvus.remove(collectionOf(id, number), [1, 2, 3, 4, 5]);
      await milvus.close();
      const second = await ScaledGalleries.open(options);
      try {
        const again = await second.get("door");
        for (const entryId of named("e", 6))
          assert.equal(await nearestInIndex(again, entryId, 50), entryId);
        assert.ok(lines.some((line) => line.includes("lacks entries")));
        await second.delete("door");
      } finally {
        await second.close();
      }
    }));
});

describe(
  "a search that waits for Milvus to have a write",
  { skip: skipScaled },
  () => {
    test("ends when its caller does not want it any more, and says at which stage", () =>
      inDatabase(async (services) => {
        const galleries = await ScaledGalleries.open(
          optionsOf(services, systemClock),
        );
        const other = await Postgres.open({ url: services.postgres });
        try {
          const gallery = await galleries.create(spec);
          await other.session(async (session) => {
            // As a server that is just bringing something, for as long as it likes.
            await session.query("SELECT pg_advisory_lock($1, $2)", [
              ...[locks.drain, gallery.number],
            ]);
            const [sequence] = await enroll(gallery, ["e"]);
            const wanted = new AbortController();
            const search = gallery.search({
              ...{ queries: featureNamed("e", dimension), k: 1 },
              ...{ freshness: "indexed", minSequence: sequence },
              signal: wanted.signal,
            });
            await delay(100);
            wanted.abort();
            await assert.rejects(search, {
              code: "CANCELLED",
              facts: { stage: "sequence" },
            });
            assert.equal(
              (
                await gallery.search({
                  queries: featureNamed("e", dimension),
                  k: 1,
                })
              ).results[0].hits[0].entry.entryId,
              "e",
            );
            await session.query("SELECT pg_advisory_unlock($1, $2)", [
              ...[locks.drain, gallery.number],
            ]);
          });
          await galleries.delete("door");
        } finally {
          await other.close();
          await galleries.close();
        }
      }));
  },
);

describe("a server whose machine is gone", { skip: skipScaled }, () => {
  test("is found out within half a minute, and one that stands still in a minute: nobody waits longer for a gallery", () =>
    inDatabase(async ({ postgres }) => {
      const database = await Postgres.open({ url: postgres });
      const settings = await database.query<{ name: string; value: string }>(
        `SELECT name, setting || coalesce(unit, '') AS value FROM pg_settings
         WHERE name LIKE 'tcp_keepalives_%' OR name = 'idle_in_transaction_session_timeout'`,
      );
      const frozen = await Postgres.open({ url: postgres });
      try {
        assert.deepEqual(
          new Map(settings.map(({ name, value }) => [name, value])),
          new Map([
            ["idle_in_transaction_session_timeout", "60000ms"],
            ["tcp_keepalives_count", "3"],
            ["tcp_keepalives_idle", "10s"],
            ["tcp_keepalives_interval", "5s"],
          ]),
        );
        // What becomes of the one that stands still, with a shorter time.
        await frozen.session(async (session) => {
          await session.query(
            "SET idle_in_transaction_session_timeout = '100ms'",
          );
          await session.query("BEGIN");
          await session.query("SELECT pg_advisory_xact_lock(1)");
          await database.query("SELECT pg_advisory_lock(1)");
          await assert.rejects(session.query("COMMIT"), {
            code: "DATABASE_UNAVAILABLE",
          });
        });
      } finally {
        await frozen.close();
        await database.close();
      }
    }));
});

describe("a PostgreSQL that takes no writes", { skip: skipScaled }, () => {
  test("has them refused with STORE_READ_ONLY, is read and searched, and takes them again when it does", () =>
    onServers(1, async ([one]) => {
      const gallery = await one.get("door");
      await enroll(gallery, named("before", 10));
      await nearestInIndex(gallery, "before3", 10);
      // Like a standby after a failover; on a connection that may write, so that it can be undone.
      const turn = (value: "on" | "off") =>
        one.postgres.session(async (session) => {
          const [{ name }] = await session.query<{ name: string }>(
            "SELECT current_database() AS name",
          );
          await session.query("SET default_transaction_read_only = off");
          await session.query(
            `ALTER DATABASE ${name} SET default_transaction_read_only = ${value}`,
          );
          // Sessions keep the setting that they began with.
          await session.query(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()`,
          );
          await session.query(`SET default_transaction_read_only = ${value}`);
        });
      await turn("on");
      assert.equal(await outcomeOf(gallery, "no"), "STORE_READ_ONLY");
      assert.equal((await gallery.getEntry("before5")).entryId, "before5");
      await untilSearched(gallery, "before5");
      await turn("off");
      assert.equal(await outcomeOf(gallery, "after"), "ok");
      await untilSearched(gallery, "after");
      const { entries } = await gallery.listEntries({ pageSize: 100 });
      assert.deepEqual(
        entries.map(({ entryId }) => entryId),
        [...named("before", 10), "after"],
      );
    }));
});

describe("while PostgreSQL", { skip: skipDisturbed }, () => {
  after(() => disturb("postgres-start").catch(() => undefined));

  test("crashes under load nothing acknowledged is lost, and no sequence is missing or given twice", () =>
    onServers(2, async (servers) => {
      const acknowledged = new Map<string, number>();
      let isOver = false;
      let failures = 0;
      const load = async (server: ScaledGalleries, prefix: string) => {
        for (let call = 0; !isOver; call++) {
          const names = named(`${prefix}-${call}-`, 3);
          try {
            const sequences = await enroll(await server.get("door"), names);
            names.forEach((name, i) => acknowledged.set(name, sequences[i]));
          } catch (error) {
            assert.ok(error instanceof ReidError, String(error));
            assert.equal(error.code, "DATABASE_UNAVAILABLE", error.message);
            failures++;
            await delay(20);
          }
        }
      };
      const loads = servers.flatMap((server, i) =>
        named(`s${i}`, 3).map((prefix) => load(server, prefix)),
      );
      for (let crash = 0; crash < 3; crash++) {
        const before = acknowledged.size;
        while (acknowledged.size < before + 60) await delay(10);
        await disturb("postgres-crash");
      }
      const before = acknowledged.size;
      while (acknowledged.size < before + 60) await delay(10);
      isOver = true;
      await Promise.all(loads);
      assert.ok(failures > 0, "no call was under way at a crash");

      const gallery = await servers[1].get("door");
      const { sequence, entryCount } = gallery.describe();
      const found = new Map<string, number>();
      for (let next: number | undefined = 0; next !== undefined;) {
        const page = await gallery.listEntries({
          pageSize: 200,
          afterSequence: next,
        });
        for (const entry of page.entries)
          found.set(entry.entryId, entry.sequence);
        next = page.nextSequence;
      }
      for (const [entryId, of] of acknowledged)
        assert.equal(found.get(entryId), of, entryId);
      assert.equal(found.size, entryCount);
      // Nothing was replaced or deleted: each entry has a number of its own, and every number its entry.
      assert.equal(new Set(found.values()).size, sequence);
      for (const entryId of [...acknowledged.keys()].slice(-10))
        assert.equal(await nearestInIndex(gallery, entryId, sequence), entryId);
    }));
});
