import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#core/clock";
import { readBundle } from "#core/manifest";
import { evaluateBundle } from "#train/bundle-evaluation";
import { engines } from "#train/engines";
import { renderDomain } from "#train/synth";
import { train } from "#train/train";
import { realFolder, realMissing } from "../support/golden.js";
import { writeOsnetBundle } from "../support/osnet.js";

const encoderFile = "encoder/osnet_x0_25_msmt17.onnx";
const skip = realMissing(encoderFile);
const size = { heightPx: 128, widthPx: 64 };

describe("training from somebody else's encoder", { skip }, () => {
  let root = "";
  before(async () => void (root = await mkdtemp(join(tmpdir(), "osnet-"))));
  after(() => rm(root, { recursive: true }));

  test("lowers the loss without a source, exports and evaluates", async () => {
    const target = join(root, "target");
    await renderDomain({
      domain: "target",
      ...{ out: target, seed: 1, cameras: 2, ...size },
      ...{ identities: 20, cropsPerIdentity: 8 },
      ...{ testIdentities: 10, testCropsPerIdentity: 6 },
    });
    const engine = engines.onnxruntime({});
    const { bundle, epochs, verificationError } = await train(
      {
        encoder: join(realFolder, encoderFile),
        ...{ mode: "usl", target, out: join(root, "run"), ...size },
        ...{ epochs: 2, iterations: 24, batchSize: 16 },
      },
      { engine, clock: systemClock },
    );
    const [first, second] = epochs.map(({ meanLoss }) => Number(meanLoss));
    assert.ok(second < first, `mean loss ${first}, then ${second}`);
    assert.ok(verificationError < 1e-4);
    const { manifest } = await readBundle(bundle);
    assert.deepEqual(
      [manifest.heightPx, manifest.widthPx, manifest.dimension],
      [128, 64, 512],
    );
    const given = await writeOsnetBundle(join(root, "models"), size);
    const [before, mAP] = await Promise.all(
      [given.folder, bundle].map(async (model) => {
        const { mAP } = await evaluateBundle(
          { model, data: target, format: "market1501" },
          { engine },
        );
        return mAP;
      }),
    );
    assert.ok(mAP > before + 0.1, `mAP ${before}, then ${mAP}`);
  });
});
