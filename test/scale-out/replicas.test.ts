import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { connect, type Client } from "#cli/client";

import { featureNamed, inFolder } from "../support/galleries.js";
import { watched } from "../support/operations.js";
import { inDatabase, scaledSettings, skipScaled } from "../support/scaled.js";
import { mainModule, readyAddress } from "../support/server-process.js";
import { refused } from "../support/wire-server.js";

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

/** Servers on one pair of services; the gallery goes with them. */
function onReplicas(
  names: readonly string[],
  action: (
    replicas: readonly Awaited<ReturnType<typeof startReplica>>[],
  ) => Promise<void>,
): Promise<void> {
  return inDatabase((services) =>
    inFolder(async (folder) => {
      const replicas = await Promise.all(
        names.map((name) => startReplica(folder, name, services)),
      );
      const [last] = replicas.slice(-1);
      try {
        await action(replicas);
        await last.client.GalleryService.DeleteGallery({ gallery: "door" });
      } finally {
        await Promise.all(replicas.map(({ end }) => end("SIGTERM")));
      }
    }),
  );
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
      onReplicas(["a", "b", "c"], async ([a, b, c]) => {
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
      }));

    test("decide, forget and work as one, and what a killed one was at another goes on with", () =>
      onReplicas(["a", "b", "c"], async ([a, b, c]) => {
        await a.client.GalleryService.CreateGallery({
          gallery: { name: "door", model, dimension, index: { flat: {} } },
        });
        // Crops of one newcomer, at once and through every server.
        for (let newcomer = 0; newcomer < 5; newcomer++) {
          const { feature } = enrollment(`newcomer-${newcomer}`);
          const decided = await Promise.all(
            [a, b, c, a, b, c].map(({ client }) =>
              client.SearchService.Identify({
                gallery: "door",
                feature,
                enroll: "ENROLL_POLICY_NEW_AND_KNOWN",
              }),
            ),
          );
          const made = new Set(decided.map(({ identity }) => identity));
          assert.equal(made.size, 1, [...made].join(" "));
          const news = decided.filter(
            ({ decision }) => decision === "DECISION_NEW",
          );
          assert.equal(news.length, 1);
        }
        for (let at = 0; at < 3000; at += 200)
          await a.client.GalleryService.Enroll({
            gallery: "door",
            enrollments: Array.from({ length: 200 }, (_, i) =>
              enrollment(`e${at + i}`),
            ),
          });
        const forgotten = await b.client.GalleryService.ForgetIdentity({
          identity: "p-e77",
        });
        assert.equal(forgotten.entryCount, "1");
        assert.notEqual(await nearest(c.client, "e77", "0"), "e77");

        const { operation } = await a.client.GalleryService.UpdateGallery({
          gallery: { name: "door", index: { hnsw: { m: 16 } } },
          updateMask: { paths: ["index"] },
        });
        const operationId = operation?.operationId ?? "";
        const asSeen = await b.client.GalleryService.GetGallery({
          gallery: "door",
        });
        assert.equal(asSeen.gallery?.state, "GALLERY_STATE_REBUILDING");
        await refused(
          c.client.GalleryService.UpdateGallery({
            gallery: { name: "door", index: { flat: {} } },
            updateMask: { paths: ["index"] },
          }),
          "GALLERY_BUSY",
        );
        await a.end("SIGKILL");
        const seen = await watched(b.client, operationId);
        assert.equal(seen.at(-1)?.state, "OPERATION_STATE_SUCCEEDED");
        const after = await c.client.GalleryService.GetGallery({
          gallery: "door",
        });
        assert.equal(after.gallery?.index?.hnsw?.m, 16);
        assert.equal(after.gallery.state, "GALLERY_STATE_READY");
        assert.equal(await nearest(c.client, "e2999", "0"), "e2999");
        const admin = b.client.AdminService;
        for (const call of [
          () => admin.CreateSnapshot({ gallery: "door" }),
          () => admin.CreateBackup({}),
          () => admin.RestoreBackup({ backupId: "b1" }),
          () => admin.ListBackups({}),
        ])
          await refused(call(), "ENGINE_UNSUPPORTED");
      }));
  },
);
