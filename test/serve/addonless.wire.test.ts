import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "#cli/client";
import { inFolder } from "../support/galleries.js";
import { mainModule, readyAddress } from "../support/server-process.js";
import { unitFeature } from "../support/wire-server.js";

/** The environment of a machine on which no addon of ours was built. */
async function withoutAddons(folder: string): Promise<NodeJS.ProcessEnv> {
  const empty = join(folder, "no-addons");
  await mkdir(empty);
  // Of this test's runner: the one inside would report to it.
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  return { ...environment, REID_ADDON_FOLDER: empty };
}

const featureOf = (seed: number) => ({
  ...unitFeature(seed),
  model: { name: "external", version: 1 },
});

/** Arguments of a server on free ports. */
const serve = (folder: string) => [
  ...[mainModule, "serve", "--models", join(folder, "models")],
  ...["--data", join(folder, "data")],
  ...["--listen", "127.0.0.1:0", "--metrics", ""],
];

describe("a server without the addon", () => {
  test("enrols, searches and filters exactly, and says once that it does", (t) =>
    inFolder(async (folder) => {
      const env = await withoutAddons(folder);
      const server = spawn(process.execPath, serve(folder), {
        env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      t.after(() => server.kill("SIGKILL"));
      const log = text(server.stderr);
      const client = connect(await readyAddress(server));
      t.after(() => client.close());
      await client.GalleryService.CreateGallery({
        gallery: {
          name: "door",
          dimension: 12,
          model: { name: "external", version: 1 },
          index: { hnsw: {} },
        },
      });
      await client.GalleryService.Enroll({
        gallery: "door",
        enrollments: Array.from({ length: 200 }, (_, i) => ({
          feature: featureOf(i),
          entry: { entryId: `e${i}`, cameraId: `c${i % 2}` },
        })),
      });
      for (const [cameraIn, nearest] of [
        [[], true],
        [["c0"], false],
      ] as [string[], boolean][]) {
        const { results } = await client.SearchService.Search({
          ...{ gallery: "door", k: 3, filter: { cameraIn } },
          queries: [{ feature: featureOf(77) }],
        });
        const [best] = results[0].hits;
        assert.equal(best.entry?.entryId === "e77", nearest);
        assert.equal(results[0].exact, true);
      }
      server.kill("SIGTERM");
      const [code] = (await once(server, "exit")) as [unknown];
      assert.equal(code, 0);
      const said = (await log).match(/searched exactly by onnxruntime/g);
      assert.equal(said?.length, 1);
    }));

  test("does not start where the configuration names the addon", () =>
    inFolder(async (folder) => {
      const env = {
        ...(await withoutAddons(folder)),
        REID_CONFIG: join(folder, "reid.yaml"),
      };
      await writeFile(env.REID_CONFIG, "index:\n  binding: addon\n");
      const server = spawn(process.execPath, serve(folder), { env });
      const said = text(server.stderr);
      const [code] = (await once(server, "exit")) as [unknown];
      assert.equal(code, 1);
      assert.match(await said, /FAISS cannot be had from/);
    }));
});

describe("galleries without the addon", () => {
  test("pass every test of galleries", () =>
    inFolder(async (folder) => {
      const env = await withoutAddons(folder);
      const file = fileURLToPath(
        new URL("../index/gallery.test.js", import.meta.url),
      );
      const outcome = await new Promise<string>((resolve) => {
        execFile(
          process.execPath,
          ["--test", "--test-reporter=tap", file],
          { env },
          (_error, stdout) => resolve(stdout),
        );
      });
      assert.match(outcome, /^# fail 0$/m, outcome);
      assert.match(outcome, /^# pass [1-9]\d+$/m);
    }));
});
