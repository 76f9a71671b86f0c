import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as after } from "node:timers/promises";

import { connect } from "#cli/client";
import { randomStream } from "#core/random";

import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import { mainModule, readyAddress } from "../support/server-process.js";

const dimension = 32;
const kills = 20;
const model = { name: "external", version: 1 };

/** A server of its own process on a port that the system chose. */
async function startServer(folder: string) {
  const running = spawn(
    process.execPath,
    [
      ...[mainModule, "serve", "--models", join(folder, "models")],
      ...["--data", join(folder, "data"), "--listen", "127.0.0.1:0"],
      ...["--metrics", ""],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const address = await readyAddress(running);
  const closed = new Promise<void>((resolve) => {
    running.on("close", () => {
      resolve();
    });
  });
  return {
    address,
    kill: async () => {
      running.kill("SIGKILL");
      await closed;
    },
  };
}

/** Enrolls over gRPC until the connection breaks; notes what was acknowledged. */
async function enrollUntilBroken(
  address: string,
  round: number,
  acknowledged: Map<string, string>,
): Promise<void> {
  const client = connect(address);
  try {
    await client.ready(10_000);
    for (let call = 0; ; call++) {
      const names = [0, 1, 2].map((i) => `r${round}-c${call}-${i}`);
      const { results } = await client.GalleryService.Enroll({
        gallery: "door",
        enrollments: names.map((entryId) => {
          const feature = featureNamed(entryId, dimension);
          return {
            feature: { f32le: Buffer.from(feature.buffer), model },
            entry: { entryId },
          };
        }),
      });
      for (const { entryId, sequence, error } of results ?? []) {
        assert.ok(!error, JSON.stringify(error));
        acknowledged.set(String(entryId), String(sequence));
      }
    }
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
  } finally {
    client.close();
  }
}

describe("server killed during Enroll over gRPC", () => {
  test("keeps every acknowledged entry, none twice", () =>
    inFolder(async (folder) => {
      await mkdir(join(folder, "models"));
      const random = randomStream(13, "server kills");
      const acknowledged = new Map<string, string>();
      for (let round = 0; round < kills; round++) {
        const server = await startServer(folder);
        if (round === 0) {
          const client = connect(server.address);
          await client.GalleryService.CreateGallery({
            gallery: { name: "door", model, dimension },
          });
          client.close();
        }
        const enrolling = enrollUntilBroken(
          server.address,
          round,
          acknowledged,
        );
        // By what it has done, not by the clock: a busy machine may have done nothing yet.
        const wanted = acknowledged.size + 3 * random.below(5);
        const end = performance.now() + 10_000;
        while (acknowledged.size < wanted && performance.now() < end)
          await after(1);
        await after(random.between(0, 30));
        await server.kill();
        await enrolling;
      }
      const open = await openGalleries(join(folder, "data"));
      const gallery = await open.galleries.get("door");
      const { entries } = await gallery.listEntries({
        pageSize: 1e9,
        view: "feature",
      });
      const found = new Map(entries.map((entry) => [entry.entryId, entry]));
      assert.equal(found.size, entries.length, "an entry is there twice");
      for (const [entryId, sequence] of acknowledged)
        assert.equal(String(found.get(entryId)?.sequence), sequence, entryId);
      assert.ok(acknowledged.size > 60, `only ${acknowledged.size} entries`);
      await open.close();
    }));
});
