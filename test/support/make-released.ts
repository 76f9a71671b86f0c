// Writes a small data folder of this version to test/released, for the versions that come: `make released`.
import { randomUUID } from "node:crypto";
import {
  cp,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Client } from "#cli/client";
import { randomStream } from "#core/random";

import { unitFeatures } from "./galleries.js";
import { finished } from "./operations.js";
import { reid } from "./reid-command.js";
import {
  pack,
  readAll,
  readMemoryRows,
  releasedFolder,
  responseOf,
  startOn,
  type Kept,
  type KeptQuery,
  type KeptRequest,
} from "./released.js";
import { writeTinyBundle } from "./tiny-bundle.js";
import { noiseCrop } from "./wire-server.js";

const madeAtMs = 1_767_225_600_000;
const dimension = 16;
const external = { name: "external", version: 1 };
const forgotten = "agnes";
const { version } = JSON.parse(await readFile("package.json", "utf8")) as {
  readonly version: string;
};

/** The galleries on features made elsewhere, each on another kind of index. */
const kinds = {
  graph: { hnsw: { m: 8, efConstruction: 40, efSearch: 64 } },
  lists: { ivf: { lists: 2, probes: 2 } },
  coded: { hnsw: { m: 8 }, storage: "FEATURE_STORAGE_INT8" },
  plain: { flat: {} },
} as const;

function featureOf(name: string): Buffer {
  const feature = unitFeatures(randomStream(1, name), 1, dimension);
  return Buffer.from(feature.buffer);
}

async function enroll(
  { GalleryService }: Client,
  gallery: string,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<void> {
  await GalleryService.Enroll({
    gallery,
    enrollments: Array.from({ length: to - from }, (_, i) => {
      const entryId = `e${from + i}`;
      return {
        entry: {
          entryId,
          identity: i % 5 === 0 ? "" : i % 7 === 0 ? forgotten : `p${i % 5}`,
          cameraId: `c${i % 3}`,
          ...(i % 4 === 0 ? { attributes: { hall: "ä", floor: `${i}` } } : {}),
          ...(i % 6 === 0 ? { expiresAt: { seconds: 4_102_444_800 } } : {}),
        },
        feature: { f32le: featureOf(entryId), model: external },
      };
    }),
  });
}

/** A gallery of crops that are kept: replaced, updated, deleted ones, and one identity that is forgotten. */
async function fillCrops(client: Client): Promise<void> {
  const { GalleryService } = client;
  const gallery = "door";
  await GalleryService.CreateGallery({
    gallery: {
      name: gallery,
      index: { flat: {}, storage: "FEATURE_STORAGE_F16" },
      cropRetention: "CROP_RETENTION_KEEP",
      defaultTtl: { seconds: 300_000_000 },
      maxEntries: 5000,
      tags: { floor: "2" },
    },
  });
  const enrollment = (i: number, seed = i) => ({
    crop: {
      ...noiseCrop(seed),
      cameraId: `c${i % 2}`,
      trackId: `t${i}`,
      capturedAt: { seconds: 1_767_000_000 + i, nanos: 123_456_000 },
    },
    entry: { entryId: `d${i}`, identity: i === 3 ? forgotten : `p${i % 4}` },
  });
  await GalleryService.Enroll({
    gallery,
    enrollments: Array.from({ length: 10 }, (_, i) => enrollment(i)),
  });
  await GalleryService.Enroll({ gallery, enrollments: [enrollment(4, 40)] });
  await GalleryService.UpdateEntries({
    gallery,
    selector: { entryIds: ["d5", "d6"] },
    entry: { identity: "berta", attributes: { hall: "north" } },
    updateMask: { paths: ["identity", "attributes.hall"] },
  });
  await GalleryService.DeleteEntries({
    gallery,
    selector: { entryIds: ["d8"] },
  });
}

async function fillKinds(client: Client): Promise<void> {
  const { GalleryService } = client;
  for (const [name, index] of Object.entries(kinds)) {
    await GalleryService.CreateGallery({
      gallery: { name, model: external, dimension, index },
    });
    await enroll(client, name, { from: 0, to: name === "lists" ? 90 : 40 });
    await GalleryService.DeleteEntries({
      gallery: name,
      selector: { entryIds: ["e7", "e8"] },
    });
  }
  // Its number, and the last sequence under its name, stay known.
  await GalleryService.CreateGallery({
    gallery: { name: "former", model: external, dimension },
  });
  await enroll(client, "former", { from: 0, to: 3 });
  await GalleryService.DeleteGallery({ gallery: "former" });
  // Its index follows the number of entries.
  await GalleryService.CreateGallery({
    gallery: { name: "unnamed", model: external, dimension },
  });
  await enroll(client, "unnamed", { from: 0, to: 5 });
}

/** Everything that a server can leave in its folders. */
async function fill(client: Client, data: string): Promise<string> {
  const { AdminService, EmbedService, GalleryService, MemoryService } = client;
  await fillCrops(client);
  await fillKinds(client);
  await EmbedService.Embed({
    crops: Array.from({ length: 40 }, (_, i) => ({
      ...noiseCrop(i % 4),
      cropId: `m${i}`,
      cameraId: `c${i % 2}`,
      ...(i % 8 === 0 ? { trackId: `track${i}` } : {}),
    })),
  });
  await finished(client, AdminService.CreateBackup({}));
  await GalleryService.ForgetIdentity({ identity: forgotten });
  await finished(client, MemoryService.Recluster({}));
  await finished(
    client,
    GalleryService.UpdateGallery({
      gallery: { name: "graph", index: { hnsw: { m: 12 } } },
      updateMask: { paths: ["index"] },
    }),
  );
  for (const gallery of ["graph", "lists", "coded"])
    await finished(client, AdminService.CreateSnapshot({ gallery }));
  const aside = join(data, "..", "snapshots-before");
  await cp(join(data, "snapshots"), aside, { recursive: true });
  // The snapshot is of before these: a start catches up.
  await enroll(client, "graph", { from: 40, to: 50 });
  return aside;
}

const queries: readonly KeptQuery[] = [
  ...Object.keys(kinds).map((gallery) => ({
    ...{ gallery, k: 10, model: external },
    feature: featureOf("query").toString("base64"),
  })),
];
const requests: readonly KeptRequest[] = ["graph", "plain"].map((gallery) => ({
  ...{ gallery, requestId: randomUUID(), entryId: "asked", model: external },
  feature: featureOf("asked").toString("base64"),
}));

async function exportOf(folder: string, gallery: string, name: string) {
  const { code, stderr } = await reid(
    ...["index", "export", "--data", join(folder, "data")],
    ...["--gallery", gallery, "--out", join(folder, "exports", name)],
    ...["--format", name.endsWith(".parquet") ? "parquet" : "npy"],
  );
  if (code !== 0) throw new TypeError(stderr);
}

const target = join(releasedFolder, version);
if ((await stat(target).catch(() => undefined)) !== undefined)
  throw new TypeError(`${target} is there: what was released stays as it was`);
const folder = await mkdtemp(join(tmpdir(), "reid-released-"));
try {
  const data = join(folder, "data");
  await writeTinyBundle(join(folder, "models"), "door");
  const wire = await startOn(folder, madeAtMs);
  const aside = await fill(wire.client, data);
  for (const request of requests) await responseOf(wire.client, request);
  await wire.server.settleMemory();
  const answers = await readAll(wire.client, { queries, requests });
  await wire.close();
  for (const number of await readdir(aside)) {
    await rm(join(data, "snapshots", number), { recursive: true });
    await cp(join(aside, number), join(data, "snapshots", number), {
      recursive: true,
    });
  }
  await rm(aside, { recursive: true });
  // In a copy: opening a folder finishes what is due in it.
  const copy = await mkdtemp(join(tmpdir(), "reid-released-"));
  await cp(folder, copy, { recursive: true });
  const memoryRows = await readMemoryRows(copy);
  await exportOf(copy, "door", "door.parquet");
  await exportOf(copy, "graph", "graph");
  await cp(join(copy, "exports"), join(folder, "exports"), { recursive: true });
  await rm(copy, { recursive: true });
  await pack(folder, target);
  const kept: Kept = {
    ...{ version, madeAtMs, forgotten, queries, requests, answers, memoryRows },
  };
  await writeFile(join(target, "kept.json"), `${JSON.stringify(kept)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
