import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { failedCall, trailersOf } from "../support/raw-call.js";
import {
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

/** A disk whose writes wait while it is held. */
class HeldDisk {
  #free = Promise.resolve(1e12);
  #release: (freeBytes: number) => void = () => undefined;

  readonly freeBytes = (): Promise<number> => this.#free;

  hold(): void {
    this.#free = new Promise((resolve) => (this.#release = resolve));
  }

  release(): void {
    this.#release(1e12);
  }
}

const disk = new HeldDisk();
let wire: WireServer;
before(async () => {
  wire = await startWireServer(
    { store: { min_free_bytes: 1 } },
    { store: { freeBytes: disk.freeBytes } },
  );
  await wire.client.GalleryService.CreateGallery({ gallery: { name: "g" } });
});
after(() => wire.close());

const entriesOf = async () =>
  (
    await wire.client.GalleryService.ListEntries({
      gallery: "g",
      pageSize: 1000,
    })
  ).entries;
const items = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({ feature: unitFeature(from + i) }));

describe("a write whose caller is gone", () => {
  test("is there whole or not at all", async () => {
    const before = (await entriesOf()).length;
    disk.hold();
    const hangUp = new AbortController();
    const call = wire.client.GalleryService.Enroll(
      { gallery: "g", enrollments: items(256) },
      { signal: hangUp.signal },
    ).then(
      () => "answered",
      () => "cancelled",
    );
    await wire.client.GalleryService.GetGallery({ gallery: "g" });
    hangUp.abort();
    assert.equal(await call, "cancelled");
    // Behind it, and behind the word that nobody waits for it: when it is answered, the other one is decided.
    const next = wire.client.GalleryService.Enroll({
      gallery: "g",
      enrollments: items(1, 1000),
    });
    await wire.client.GalleryService.GetGallery({ gallery: "g" });
    disk.release();
    const { sequence } = await next;
    const written = (await entriesOf()).length - before;
    assert.ok(written === 1 || written === 257, `${written} were written`);
    const { gallery } = await wire.client.GalleryService.GetGallery({
      gallery: "g",
    });
    assert.equal(gallery?.entryCount, gallery?.sequence);
    assert.equal(gallery?.sequence, sequence);
  });

  test("for its deadline is told of with stage commit, stays if it was committed, and is made once under its id", async () => {
    const before = (await entriesOf()).length;
    const request = {
      gallery: "g",
      enrollments: items(3, 2000),
      requestId: randomUUID(),
    };
    disk.hold();
    const failed = await failedCall(
      wire.address,
      "GalleryService/Enroll",
      request,
      { deadlineMs: 200 },
    );
    const { error } = trailersOf(failed);
    assert.deepEqual([failed.code, error.code], [4, "DEADLINE"]);
    assert.equal(error.facts["stage"], "commit");
    disk.release();
    const again = await wire.client.GalleryService.Enroll(request);
    assert.deepEqual(await wire.client.GalleryService.Enroll(request), again);
    assert.equal((await entriesOf()).length, before + 3);
    const stored = (await entriesOf()).map(({ entryId }) => entryId);
    for (const { entryId } of again.results)
      assert.ok(stored.includes(entryId), entryId);
  });
});
