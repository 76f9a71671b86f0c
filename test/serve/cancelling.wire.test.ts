import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FaissIndex, faissMissing } from "#index/faiss";
import { metric } from "../support/metrics.js";
import { failedCall, trailersOf } from "../support/raw-call.js";
import { wireEngine } from "../support/scaled.js";
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

describe("a search whose caller is gone", () => {
  const skip =
    wireEngine === "scaled"
      ? "Milvus searches; test/scale-out has what it waits for"
      : (faissMissing()?.message ?? false);
  const dimension = 512;
  const model = { name: "external", version: 1 };
  /** Cheap to make: two numbers that are not zero. */
  const feature = (i: number) => {
    const numbers = new Float32Array(dimension);
    numbers[i % dimension] = Math.cos(1 / (i + 1));
    numbers[(i + 1) % dimension] = Math.sin(1 / (i + 1));
    return { f32le: Buffer.from(numbers.buffer), model };
  };
  const finished =
    'reid_search_duration_seconds_count{gallery="large",mode="exact",filtered="false"}';

  test("stops in the index, long before it has compared all, and is not among those that came to an end", async (t) => {
    if (skip !== false) return t.skip(skip);
    const own = await startWireServer({
      limits: { queries: 4096 },
      index: { threads: 1 },
    });
    const searches = mock.method(FaissIndex.prototype, "search");
    try {
      const { GalleryService, SearchService } = own.client;
      await GalleryService.CreateGallery({
        gallery: { name: "large", model, dimension, index: { flat: {} } },
      });
      // 42 billion products for 4096 queries: seconds, of which a cancellation takes milliseconds.
      for (let first = 0; first < 20_000; first += 250)
        await GalleryService.Enroll({
          gallery: "large",
          enrollments: Array.from({ length: 250 }, (_, i) => ({
            feature: feature(first + i),
          })),
        });
      const search = (count: number, signal?: AbortSignal) =>
        SearchService.Search(
          {
            ...{ gallery: "large", k: 1, mode: "SEARCH_MODE_EXACT" },
            queries: Array.from({ length: count }, (_, i) => ({
              feature: feature(i),
            })),
          },
          signal === undefined ? {} : { signal },
        );
      await search(1);
      assert.equal(await metric(own, finished), 1);
      searches.mock.resetCalls();
      const hangUp = new AbortController();
      const call = search(4096, hangUp.signal).then(
        () => "answered",
        () => "cancelled",
      );
      while (searches.mock.callCount() === 0) await turn();
      hangUp.abort();
      assert.equal(await call, "cancelled");
      // The index has one thread: when this one is answered, the other has ended, one way or the other.
      await search(1);
      assert.equal(searches.mock.callCount(), 2);
      await assert.rejects(searches.mock.calls[0].result as Promise<unknown>, {
        code: "CANCELLED",
      });
      assert.equal(await metric(own, finished), 2);
    } finally {
      searches.mock.restore();
      await own.close();
    }
  });
});
