import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { writeBundle } from "#core/manifest";
import { inFolder } from "../support/galleries.js";
import { tiny, writeTinyBundle } from "../support/tiny-bundle.js";
import { noiseCrop, startWireServer } from "../support/wire-server.js";

test("versions that cannot be loaded are listed with the reason, and the one before them serves", () =>
  inFolder(async (models) => {
    await writeTinyBundle(models, "door");
    const damaged = await writeTinyBundle(models, "door", 2);
    await writeFile(join(damaged.folder, "encoder.onnx"), "damaged");
    // Whole by its manifest, and nothing that the engine can run.
    await writeBundle(models, "door", Buffer.from("no encoder"), tiny);
    const wire = await startWireServer({ serve: { models } });
    try {
      const { ModelService, EmbedService } = wire.client;
      const { models: listed } = await ModelService.ListModels({});
      assert.deepEqual(
        listed.map(({ model, state, error }) => [
          ...[model?.version, state, error?.reason, error?.code],
        ]),
        [
          [3, "MODEL_STATE_FAILED", "ENGINE_UNAVAILABLE", 14],
          [2, "MODEL_STATE_FAILED", "MANIFEST_INVALID", 9],
          [1, "MODEL_STATE_ACTIVE", undefined, undefined],
        ],
      );
      assert.notEqual(listed[0].error?.retryAfter ?? null, null);
      const { results } = await EmbedService.Embed({ crops: [noiseCrop(1)] });
      assert.equal(results[0].error ?? null, null);
    } finally {
      await wire.close();
    }
  }));
