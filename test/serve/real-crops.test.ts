import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { silentTelemetry } from "#core/telemetry";
import { Inference } from "#serve/inference";
import { InferencePool, planWorkers } from "#serve/inference-pool";
import { ModelRegistry } from "#serve/registry";
import { assertClose } from "../support/close.js";
import {
  osnetMissing as skip,
  vehicles,
  writeOsnetBundle,
} from "../support/osnet.js";

/** Mean average precision where each query has exactly one right entry. */
function figures(
  query: readonly { identity: string; feature: Float32Array }[],
  gallery: readonly { identity: string; feature: Float32Array }[],
): { mAP: number; rank1: number } {
  const ranks = query.map((one) => {
    const similarities = gallery.map((entry) =>
      entry.feature.reduce((sum, value, d) => sum + value * one.feature[d], 0),
    );
    const right = gallery.findIndex((entry) => entry.identity === one.identity);
    return (
      similarities.filter((value) => value > similarities[right]).length + 1
    );
  });
  return {
    mAP: ranks.reduce((sum, rank) => sum + 1 / rank, 0) / ranks.length,
    rank1: ranks.filter((rank) => rank === 1).length / ranks.length,
  };
}

describe("OSNet-x0.25 on real crops", { skip }, () => {
  test("finds the vehicles it should, and no feature depends on its batch", async () => {
    const folder = await mkdtemp(join(tmpdir(), "reid-real-"));
    await writeOsnetBundle(folder);
    const config = parseConfig({});
    const pool = new InferencePool({
      ...planWorkers(0, 0),
      maxBatch: config.inference.maxBatch,
      device: "cpu",
      log: silentLog,
    });
    const clock = systemClock;
    const registry = await ModelRegistry.open({
      folder,
      pool,
      clock,
      log: silentLog,
    });
    const inference = new Inference({
      registry,
      pool,
      config,
      telemetry: silentTelemetry,
      clock,
    });
    try {
      const embedFolder = async (name: string) => {
        const path = join(vehicles, name);
        const files = (await readdir(path)).sort();
        const crops = await Promise.all(
          files.map(async (file) => ({
            encoded: await readFile(join(path, file)),
          })),
        );
        const { outcomes } = await inference.embed(crops);
        return outcomes.map((outcome, i) => {
          assert.ok(outcome instanceof Float32Array, String(outcome));
          return {
            identity: files[i].slice(0, 4),
            feature: outcome,
            crop: crops[i],
          };
        });
      };
      const query = await embedFolder("query");
      const gallery = await embedFolder("bounding_box_test");
      const { mAP, rank1 } = figures(query, gallery);
      assertClose([mAP], [0.739], { abs: 0.01 });
      assertClose([rank1], [0.633], { abs: 0.015 });
      let worst = 0;
      for (const { crop, feature } of query.slice(0, 20)) {
        const alone = (await inference.embed([crop])).outcomes[0];
        assert.ok(alone instanceof Float32Array);
        alone.forEach((value, d) => {
          worst = Math.max(worst, Math.abs(value - feature[d]));
        });
      }
      console.log(
        `mAP ${mAP.toFixed(4)}, rank-1 ${rank1.toFixed(4)}; alone against in a batch: worst ${worst.toExponential(1)}`,
      );
      assert.ok(worst <= 1e-6, `worst ${worst}`);
    } finally {
      await inference.close();
      await pool.close();
      await rm(folder, { recursive: true });
    }
  });
});
