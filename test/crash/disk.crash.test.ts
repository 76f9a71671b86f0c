import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as after } from "node:timers/promises";

import { connect, type Client } from "#cli/client";
import { ReidError } from "#core/errors";

import { cannotMount, onDisk, type Disk } from "../support/disks.js";
import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import { watchHealth } from "../support/health-client.js";
import { startOwnServer } from "../support/server-process.js";

const dimension = 256;
const model = { name: "external", version: 1 };
const callers = 4;
/** How long a server may take to notice, and to be well again. */
const withinMs = 10_000;

const feature = (name: string) => ({
  f32le: Buffer.from(featureNamed(name, dimension).buffer),
  model,
});

/** Callers that enrol without a pause, and what came of it. */
class Enrolling {
  /** Entry id → sequence. */
  readonly acknowledged = new Map<string, string>();
  /** Reason → how often. */
  readonly refused = new Map<string, number>();
  readonly #running: Promise<unknown>;
  #isOver = false;

  constructor(client: Client, round: string) {
    this.#running = Promise.all(
      Array.from({ length: callers }, (_, lane) =>
        this.#enrol(client, `${round}-${lane}`),
      ),
    );
  }

  /** Waits until so many more have been acknowledged, or refused. */
  async until(what: "acknowledged" | "refused", more: number): Promise<void> {
    const count = () =>
      what === "acknowledged"
        ? this.acknowledged.size
        : [...this.refused.values()].reduce((sum, n) => sum + n, 0);
    const wanted = count() + more;
    const end = performance.now() + withinMs;
    while (count() < wanted) {
      const said = JSON.stringify([...this.refused]);
      assert.ok(performance.now() < end, `${count()} ${what}: ${said}`);
      await after(5);
    }
  }

  /** Stops and waits for the calls under way. */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #enrol(client: Client, lane: string): Promise<void> {
    for (let call = 0; !this.#isOver; call++) {
      const names = [0, 1, 2, 3].map((i) => `${lane}-${call}-${i}`);
      try {
        const { results } = await client.GalleryService.Enroll({
          gallery: "door",
          enrollments: names.map((entryId) => ({
            feature: feature(entryId),
            entry: { entryId },
          })),
        });
        for (const { entryId, sequence } of results)
          this.acknowledged.set(entryId, sequence);
      } catch (error) {
        assert.ok(error instanceof ReidError, String(error));
        this.refused.set(error.code, (this.refused.get(error.code) ?? 0) + 1);
        await after(5);
      }
    }
  }
}

/** Fails where a search does. */
async function search(client: Client): Promise<void> {
  const { results } = await client.SearchService.Search({
    ...{ gallery: "door", k: 3, queries: [{ feature: feature("query") }] },
  });
  assert.equal(results[0].hits.length, 3);
}

/** A fresh owner of the data folder finds every acknowledged entry. */
async function holdTo(
  data: string,
  acknowledged: ReadonlyMap<string, string>,
): Promise<void> {
  const open = await openGalleries(data);
  const gallery = await open.galleries.get("door");
  const { entries } = await gallery.listEntries({ pageSize: 1e9 });
  const found = new Map(entries.map((entry) => [entry.entryId, entry]));
  assert.equal(found.size, entries.length, "an entry is there twice");
  for (const [entryId, sequence] of acknowledged)
    assert.equal(String(found.get(entryId)?.sequence), sequence, entryId);
  await open.close();
}

/** A server on a disk, with a gallery; its end is checked. */
async function onServer(
  { folder: disk }: Disk,
  folder: string,
  action: (client: Client, address: string) => Promise<void>,
): Promise<string> {
  const data = join(disk, "data");
  const config = "store:\n  min_free_bytes: 4194304\n";
  const server = await startOwnServer(folder, data, config);
  const client = connect(server.address);
  try {
    await client.GalleryService.CreateGallery({
      gallery: { name: "door", model, dimension },
    });
    await action(client, server.address);
    assert.equal(server.ended(), undefined);
  } catch (error) {
    const ended = server.ended();
    if (ended === undefined) throw error;
    throw new assert.AssertionError({ message: JSON.stringify(ended) });
  } finally {
    client.close();
    await server.kill();
  }
  return data;
}

describe("a server on a disk", () => {
  for (const kind of ["tmpfs", "ext4", "thin ext4"] as const)
    test(`that is filled under it (${kind}) refuses writes, reads on, and writes again when there is room`, async (t) => {
      const cannot = await cannotMount(kind);
      if (cannot !== false) return t.skip(cannot);
      await onDisk(kind, (disk) =>
        inFolder(async (folder) => {
          const acknowledged = new Map<string, string>();
          const data = await onServer(disk, folder, async (client) => {
            for (const round of ["first", "second"]) {
              const enrolling = new Enrolling(client, round);
              await enrolling.until("acknowledged", 20);
              disk.fill();
              await enrolling.until("refused", 20);
              for (let n = 0; n < 5; n++) await search(client);
              await disk.empty();
              await enrolling.until("acknowledged", 100);
              await enrolling.end();
              // What a disk that says that it has room does is no lack of room: one that only says so, and one that was
              // emptied between a write cut short and the question how much is free.
              const codes = [...enrolling.refused.keys()].filter(
                (code) => kind === "tmpfs" || code !== "STORE_READ_ONLY",
              );
              assert.deepEqual(codes, ["STORE_FULL"]);
              for (const one of enrolling.acknowledged)
                acknowledged.set(...one);
            }
          });
          await holdTo(data, acknowledged);
        }),
      );
    });

  test("whose file system fails refuses writes with STORE_READ_ONLY, reads on, and has lost nothing when it is repaired", async (t) => {
    const cannot = await cannotMount("ext4");
    if (cannot !== false) return t.skip(cannot);
    await onDisk("ext4", (disk) =>
      inFolder(async (folder) => {
        const acknowledged = new Map<string, string>();
        const data = await onServer(disk, folder, async (client, address) => {
          const galleries = watchHealth(address, "reid.v1.GalleryService");
          const searches = watchHealth(address, "reid.v1.SearchService");
          try {
            const enrolling = new Enrolling(client, "only");
            await enrolling.until("acknowledged", 20);
            await galleries.until("SERVING");
            disk.fail();
            await enrolling.until("refused", 20);
            await galleries.until("NOT_SERVING");
            await searches.until("SERVING");
            for (let n = 0; n < 5; n++) await search(client);
            await enrolling.end();
            assert.deepEqual(
              [...enrolling.refused.keys()],
              ["STORE_READ_ONLY"],
            );
            for (const one of enrolling.acknowledged) acknowledged.set(...one);
          } finally {
            galleries.close();
            searches.close();
          }
        });
        disk.repair();
        await holdTo(data, acknowledged);
        const again = await startOwnServer(
          folder,
          data,
          "store:\n  min_free_bytes: 0\n",
        );
        const client = connect(again.address);
        await search(client);
        client.close();
        await again.end();
      }),
    );
  });
});
