import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { ServiceError } from "@grpc/grpc-js";
import { connect, errorFromCall, type Client } from "#cli/client";
import { watchHealth } from "../support/health-client.js";
import { mainModule, readyAddress } from "../support/server-process.js";
import { writeTinyBundle } from "../support/tiny-bundle.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
} from "../support/wire-server.js";

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

const search = ({ SearchService }: Client) =>
  SearchService.Search({
    gallery: "g",
    k: 1,
    queries: [{ feature: unitFeature(1) }],
  });

const enroll = ({ GalleryService }: Client, entryId: string) =>
  GalleryService.Enroll({
    gallery: "g",
    enrollments: [{ feature: unitFeature(1), entry: { entryId } }],
  });

/** One enrolment on a stream, to its end. */
const streamEnroll = (client: Client) =>
  new Promise<void>((resolve, reject) => {
    const stream = client.streamEnroll();
    stream.on("error", (error: ServiceError) => reject(errorFromCall(error)));
    stream.on("end", resolve).on("data", () => undefined);
    stream.write({ open: { gallery: "g" } });
    stream.write({
      enrollment: { correlationId: "1", item: { feature: unitFeature(1) } },
    });
    stream.end();
  });

/** A server that wants a megabyte left on a disk whose free bytes the test says. */
const startOnDisk = (disk: { readonly freeBytes: number }) =>
  startWireServer(
    { store: { min_free_bytes: 1_000_000 } },
    { store: { freeBytes: () => Promise.resolve(disk.freeBytes) } },
  );

describe("a disk that is full", () => {
  test("refuses writes with STORE_FULL, names no folder, and goes on reading", async () => {
    const disk = { freeBytes: 1e12 };
    const full = await startOnDisk(disk);
    try {
      const { client } = full;
      const { GalleryService } = client;
      await GalleryService.CreateGallery({ gallery: { name: "g" } });
      await enroll(client, "e");
      disk.freeBytes = 10;
      const error = await refused(enroll(client, "f"), "STORE_FULL");
      assert.equal(error.kind, "resource-exhausted");
      assert.ok(!("folder" in error.facts));
      assert.ok(!error.message.includes(full.folder), error.message);
      assert.equal((await search(client)).results[0].hits.length, 1);
    } finally {
      await full.close();
    }
  });

  test("leaves a gallery whole that could not be deleted", async () => {
    // Regression: it was closed and gone from every list, and there again after the next start.
    const disk = { freeBytes: 1e12 };
    const full = await startOnDisk(disk);
    try {
      const { client } = full;
      const { GalleryService } = client;
      await GalleryService.CreateGallery({ gallery: { name: "g" } });
      await enroll(client, "e");
      disk.freeBytes = 10;
      await refused(
        GalleryService.DeleteGallery({ gallery: "g" }),
        "STORE_FULL",
      );
      assert.equal((await search(client)).results[0].hits.length, 1);
      disk.freeBytes = 1e12;
      await enroll(client, "f");
      await GalleryService.DeleteGallery({ gallery: "g" });
      await refused(
        GalleryService.GetGallery({ gallery: "g" }),
        "GALLERY_NOT_FOUND",
      );
    } finally {
      await full.close();
    }
  });
});

describe(
  "a disk that takes no writes",
  { skip: hasPrlimit ? false : "no prlimit here" },
  () => {
    test("fails writes with STORE_READ_ONLY, serves reads, and is found again when it takes them", async () => {
      // Regression: a commit that failed ended the process.
      const folder = await mkdtemp(join(tmpdir(), "reid-read-only-"));
      await writeTinyBundle(join(folder, "models"), "door");
      const server = await startLimited(folder);
      const client = connect(server.address);
      const galleries = watchHealth(server.address, "reid.v1.GalleryService");
      const all = watchHealth(server.address, "");
      try {
        const { GalleryService, EmbedService } = client;
        await GalleryService.CreateGallery({ gallery: { name: "g" } });
        await enroll(client, "e");
        await galleries.until("SERVING");
        server.limitFiles("4096");
        const errors = await Promise.all(
          [
            enroll(client, "f"),
            streamEnroll(client),
            GalleryService.CreateGallery({ gallery: { name: "h" } }),
            GalleryService.UpdateGallery({
              gallery: { name: "g", tags: { hall: "1" } },
              updateMask: { paths: ["tags"] },
            }),
            GalleryService.UpdateEntries({
              gallery: "g",
              selector: { entryIds: ["e"] },
              entry: { identity: "p" },
              updateMask: { paths: ["identity"] },
            }),
            GalleryService.DeleteEntries({
              gallery: "g",
              selector: { entryIds: ["e"] },
            }),
            GalleryService.ForgetIdentity({ identity: "p" }),
            client.SearchService.Identify({
              gallery: "g",
              feature: unitFeature(9),
              enroll: "ENROLL_POLICY_NEW",
            }),
          ].map((write) => refused(write, "STORE_READ_ONLY")),
        );
        // Alone: until it fails, the gallery is on its way out.
        errors.push(
          await refused(
            GalleryService.DeleteGallery({ gallery: "g" }),
            "STORE_READ_ONLY",
          ),
        );
        for (const error of errors) {
          assert.equal(error.kind, "failed-precondition");
          assert.ok(!error.message.includes(folder), error.message);
        }
        await galleries.until("NOT_SERVING");
        await all.until("SERVING");
        assert.equal((await search(client)).results[0].hits.length, 1);
        await EmbedService.Embed({ crops: [noiseCrop(1)] });
        server.limitFiles("unlimited");
        await galleries.until("SERVING");
        const { results } = await enroll(client, "f");
        assert.equal(results[0].error, null);
      } finally {
        galleries.close();
        all.close();
        client.close();
        await server.end();
        await rm(folder, { recursive: true, force: true });
      }
    });
  },
);

/** A server of its own process, whose files can be kept from growing while it runs. */
async function startLimited(folder: string) {
  const config = join(folder, "reid.yaml");
  await writeFile(config, "store:\n  min_free_bytes: 0\n");
  const line = [
    ...[
      process.execPath,
      mainModule,
      "serve",
      "--models",
      join(folder, "models"),
    ],
    ...["--data", join(folder, "data"), "--listen", "127.0.0.1:0"],
    ...["--metrics", "", "--device", "cpu", "--config", config],
  ];
  // The signal that tells of the limit would end the process: with it ignored, the write fails.
  const running = spawn(
    "sh",
    ["-c", 'trap "" XFSZ; exec "$@"', "sh", ...line],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const address = await readyAddress(running);
  return {
    address,
    limitFiles: (bytes: string) => {
      const limit = [`--pid=${running.pid}`, `--fsize=${bytes}:`];
      assert.equal(spawnSync("prlimit", limit).status, 0);
    },
    end: () =>
      new Promise<void>((resolve) => {
        running.on("close", () => resolve());
        running.kill("SIGTERM");
      }),
  };
}
