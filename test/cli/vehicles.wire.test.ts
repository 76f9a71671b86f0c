import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { labelledCrops } from "#cli/connection";
import { enrollCrops } from "#cli/enrolling";
import { evaluateHits, searchCrops } from "#cli/retrieval";
import { embedDataSet } from "#train/bundle-evaluation";
import { createOnnxruntimeEngine } from "#train/engines/onnxruntime";
import { evaluate } from "#train/evaluation";
import { assertClose } from "../support/close.js";
import {
  osnetMissing as skip,
  vehicles as data,
  writeOsnetBundle,
} from "../support/osnet.js";
import { startWireServer } from "../support/wire-server.js";

/** Hits may change places where their similarities are closer than this. */
const TIE = 1e-6;

const { signal } = new AbortController();

describe("real vehicles enrolled and searched over gRPC", { skip }, () => {
  test("have the offline mAP to 1e-5, and the same entries in the same order", async () => {
    const models = await mkdtemp(join(tmpdir(), "reid-vehicles-"));
    const { folder } = await writeOsnetBundle(models);
    const wire = await startWireServer({ serve: { models } });
    try {
      const { query, gallery } = await embedDataSet(
        { model: folder, data, format: "market1501" },
        ["query", "gallery"],
        { engine: createOnnxruntimeEngine() },
      );
      const offline = await evaluate(query, gallery, { dimension: 512 });
      assertClose([offline.mAP], [0.739], { abs: 0.01 });
      assertClose([offline.cmc[0]], [0.633], { abs: 0.015 });

      const name = "street";
      await wire.client.GalleryService.CreateGallery({
        gallery: { name, index: { flat: {} } },
      });
      const entries = await labelledCrops(data, "gallery");
      const report = await enrollCrops(wire.client, name, entries, {
        signal,
      });
      assert.deepEqual([report.enrolled, report.failed], [entries.length, []]);
      const answers = await searchCrops(
        wire.client,
        { gallery: name, k: entries.length },
        await labelledCrops(data, "query"),
        { sameCamera: "removed", signal },
      );
      const overWire = evaluateHits(answers);
      assertClose([overWire.mAP], [offline.mAP], { abs: 1e-5 });
      assert.equal(overWire.cmc["1"], offline.cmc[0]);

      const row = (set: typeof gallery, i: number) =>
        set.features.subarray(i * 512, (i + 1) * 512);
      const places = new Map(
        gallery.crops.map(({ path }, i) => [
          path.split("/").slice(-2).join("/"),
          i,
        ]),
      );
      answers.forEach(({ hits }, q) => {
        const similarities = hits.map(({ entryId }) => {
          const place = places.get(entryId);
          assert.ok(place !== undefined, `an entry "${entryId}"`);
          return row(gallery, place).reduce(
            (sum, x, d) => sum + x * row(query, q)[d],
            0,
          );
        });
        assertClose(
          hits.map(({ similarity }) => similarity),
          similarities,
          { abs: 1e-5 },
        );
        for (let i = 1; i < similarities.length; i++)
          assert.ok(
            similarities[i] <= similarities[i - 1] + TIE,
            `query ${q}: hits ${i - 1} and ${i} are in the offline order`,
          );
      });
    } finally {
      await wire.close();
      await rm(models, { recursive: true, force: true });
    }
  });
});
