import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { finished } from "../support/operations.js";
import { metric, scrape, untilMetric } from "../support/metrics.js";
import {
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer();
  await made("lists", { ivf: { lists: 16 } });
  await made("flat", { flat: {} });
});
after(() => wire.close());

async function made(name: string, index: object): Promise<void> {
  const { GalleryService } = wire.client;
  await GalleryService.CreateGallery({ gallery: { name, index } });
  for (let call = 0; call < 8; call++)
    await GalleryService.Enroll({
      gallery: name,
      enrollments: Array.from({ length: 256 }, (_, i) => ({
        feature: unitFeature(call * 256 + i),
      })),
    });
}

/** Entry ids of the ten nearest. */
async function nearest(gallery: string, more: object): Promise<string[]> {
  const { results } = await wire.client.SearchService.Search({
    gallery,
    k: 10,
    queries: [{ feature: unitFeature(9999) }],
    ...more,
  });
  return results[0].hits.map(({ entry }) => entry?.entryId ?? "");
}

describe("reid.index.recall", () => {
  const series = (gallery: string) =>
    `reid_index_recall_ratio{gallery="${gallery}"}`;

  test("is the share of the true nearest that a search's index finds", async () => {
    const indexed = { freshness: "FRESHNESS_INDEXED", minSequence: "2048" };
    const exact = await nearest("lists", { mode: "SEARCH_MODE_EXACT" });
    // The first search that is approximate is measured; those that follow at once are not.
    const found = await nearest("lists", { ...indexed, effort: 1 });
    await untilMetric(wire, series("lists"), (share) => share !== undefined);
    const share = exact.filter((id) => found.includes(id)).length / 10;
    assert.ok(share < 1, "one list of sixteen does not hold all");
    assert.equal(await metric(wire, series("lists")), share);
  });

  test("is not given of an index that is exact", async () => {
    await nearest("flat", {});
    assert.equal(await metric(wire, series("flat")), undefined);
  });
});

describe("reid.snapshot.age", () => {
  test("is the time since the index was saved", async () => {
    const saved = 'reid_snapshot_age_seconds{gallery="lists"}';
    assert.ok(!(await scrape(wire)).includes("reid_snapshot_age_seconds{"));
    await finished(
      wire.client,
      wire.client.AdminService.CreateSnapshot({ gallery: "lists" }),
    );
    const age = await metric(wire, saved);
    assert.ok(age !== undefined && age >= 0 && age < 3600, String(age));
  });
});
