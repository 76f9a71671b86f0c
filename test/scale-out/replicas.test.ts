import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { connect, type Client } from "#cli/client";

import { featureNamed, inFolder } from "../support/galleries.js";
import { inDatabase, scaledSettings, skipScaled } from "../support/scaled.js";
import { mainModule, readyAddress } from "../support/server-process.js";

const dimension = 32;
const model = { name: "external", version: 1 };
/** Acknowledged through one server before it is killed. */
const acknowledgedAtLeast = 60;

/** `reid serve` on shared services, with a data folder of its own. */
async function startReplica(
  folder: string,
  name: string,
  of: { readonly postgres: string; readonly milvus: string },
) {
  const config = join(folder, `${name}.yaml`);
  await mkdir(join(folder, "models"), { recursive: true });
  const settings = {
    serve: {
      models: join(folder, "models"),
      data: join(folder, name),
      listen: "127.0.0.1:0",
      metrics: "",
    },
    ...scaledSettings(of),
  };
  // JSON is YAML.
  await writeFile(config, JSON.stringify(settings));
  const running = spawn(
    process.execPath,
    [mainModule, "serve", "--config", config],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const closed = once(running, "close");
  const client = connect(await readyAddress(running));
  return {
    client,
    end: async (signal: NodeJS.Signals) => {
      running.kill(signal);
      await closed;
      client.close();
    },
  };
}

function enrollment(entryId: string) {
  const { buffer } = featureNamed(entryId, dimension);
  return {
    feature: { f32le: Buffer.from(buffer), model },
    entry: { entryId, identity: `p-${entryId}` },
  };
}

/** Enrolls through one server until it is gone or told to stop; notes what was acknowledged. */
async function enrollUntil(
  client: Client,
  name: string,
  state: { isOver: boolean; readonly acknowledged: Map<string, string> },
): Promise<void> {
  for (let call = 0; !state.isOver; call++)
    try {
      const { results } = await client.GalleryService.Enroll({
        gallery: "door",
        enrollments: [0, 1, 2].map((i) => enrollment(`${name}-${call}-${i}`)),
      });
      for (const { entryId, sequence, error } of results ?? []) {
        assert.ok(!error, JSON.stringify(error));
        state.acknowledged.set(String(entryId), String(sequence));
      }
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return;
    }
}

/** Every entry with its feature, page by page. */
async function everyEntry(client: Client) {
  const found = new Map<string, { sequence: string; feature: Buffer }>();
  let pageToken = "";
  do {
    const page = await client.GalleryService.ListEntries({
      gallery: "door",
      view: "ENTRY_VIEW_FEATURE",
      pageSize: 100,
      pageToken,
    });
    for (const { entryId, sequence, feature } of page.entries ?? []) {
      assert.ok(!found.has(String(entryId)), `${String(entryId)} twice`);
      found.set(String(entryId), {
        sequence: String(sequence),
        feature: Buffer.from(feature?.f32le ?? []),
      });
    }
    pageToken = page.nextPageToken ?? "";
  } while (pageToken !== "");
  return found;
}

async function nearest(client: Client, entryId: string, minSequence: string) {
  const { results } = await client.SearchService.Search({
    gallery: "door",
    k: 1,
    queries: [{ feature: enrollment(entryId).feature }],
    minSequence,
  });
  return results?.[0]?.hits?.[0]?.entry?.entryId;
}

describe(
  "three servers on one PostgreSQL and one Milvus",
  { skip: skipScaled },
  () => {
    test("see each other's writes, and lose nothing acknowledged when one is killed", () =>
      inDatabase((services) =>
        inFolder(async (folder) => {
          const [a, b, c] = await Promise.all(
            ["a", "b", "c"].map((name) => startReplica(folder, name, services)),
          );
          try {
            await a.client.GalleryService.CreateGallery({
              gallery: { name: "door", model, dimension },
            });
            for (const [i, { client }] of [a, b, c].entries()) {
              const entryId = `first-${i}`;
              const { sequence } = await client.GalleryService.Enroll({
                gallery: "door",
                enrollments: [enrollment(entryId)],
              });
              for (const other of [a, b, c])
                assert.equal(
                  await nearest(other.client, entryId, String(sequence)),
                  entryId,
                );
            }
            const states = [a, b, c].map(() => ({
              isOver: false,
              acknowledged: new Map<string, string>(),
            }));
            const loads = [a, b, c].map(({ client }, i) =>
              enrollUntil(client, `s${i}`, states[i]),
            );
            let hasEnded = false;
            void loads[1].finally(() => (hasEnded = true));
            while (states[1].acknowledged.size < acknowledgedAtLeast) {
              assert.ok(!hasEnded, "its load ended before it was killed");
              await new Promise(setImmediate);
            }
            await b.end("SIGKILL");
            for (const state of states) state.isOver = true;
            await Promise.all(loads);
            const found = await everyEntry(c.client);
            for (const { acknowledged } of states)
              for (const [entryId, sequence] of acknowledged) {
                assert.equal(found.get(entryId)?.sequence, sequence, entryId);
                assert.deepEqual(
                  found.get(entryId)?.feature,
                  enrollment(entryId).feature.f32le,
                );
              }
            for (const entryId of [...states[1].acknowledged.keys()].slice(-10))
              assert.equal(await nearest(c.client, entryId, "0"), entryId);
            const last = Math.max(
              ...[...found.values()].map(({ sequence }) => Number(sequence)),
            );
            assert.equal(last, found.size, "a sequence is missing");
            await a.client.GalleryService.DeleteGallery({ gallery: "door" });
          } finally {
            await Promise.all([a.end("SIGTERM"), c.end("SIGTERM")]);
            await b.end("SIGKILL");
          }
        }),
      ));
  },
);
