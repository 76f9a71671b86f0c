import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkGraph } from "#onnx/check";
import { writeModel } from "#onnx/model";
import { openEncoder } from "#train/encoder-file";
import { type EncoderName, encoders } from "#train/encoders";
import { serveableEncoder } from "#train/export";
import { checkServeable } from "#train/bundle-check";
import { realFolder, realMissing } from "../../support/golden.js";
import { createRunner } from "#train/engines/onnxruntime";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { assertClose } from "../../support/close.js";

/**
 * Trained numbers of each encoder, head included. ResNets: torchvision's count less the classifier
 * (25,557,032 − 2,049,000 for ResNet-50) plus twice D for the head's batch norm; OSNet-x0.25: as in its file.
 */
const parameterCounts: Readonly<Record<EncoderName, number>> = {
  resnet18: 11689512 - 513000 + 2 * 512,
  resnet34: 21797672 - 513000 + 2 * 512,
  resnet50: 25557032 - 2049000 + 2 * 2048,
  resnet101: 44549160 - 2049000 + 2 * 2048,
  resnet152: 60192808 - 2049000 + 2 * 2048,
  resnet50_ibn_a: 25557032 - 2049000 + 2 * 2048,
  resnet101_ibn_a: 44549160 - 2049000 + 2 * 2048,
  osnet_x1_0: 2169508,
  osnet_x0_5: 630034,
  osnet_x0_25: 201864,
  resnet_tiny: 307792,
};

const preprocessing = {
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  scale: 1 / 255,
};

/** Networks that are small enough to be built and run in every test run. */
const small: readonly EncoderName[] = [
  "resnet18",
  "osnet_x0_25",
  "osnet_x0_5",
  "resnet_tiny",
];

describe("built-in encoders", () => {
  for (const name of Object.keys(encoders) as EncoderName[])
    test(`${name} is a valid graph of the published size`, () => {
      const entry = encoders[name];
      const model = entry.build({
        heightPx: entry.heightPx,
        widthPx: entry.widthPx,
        seed: 1,
        features: 0,
      });
      checkGraph(model);
      const count = [...model.graph.initializers]
        .filter(
          ([key, { dataType }]) =>
            dataType === "float32" && !key.includes("running_"),
        )
        .reduce((sum, [, { data }]) => sum + data.length, 0);
      assert.equal(count, parameterCounts[name]);
      assert.deepEqual(model.graph.outputs, [
        {
          name: "feature",
          dataType: "float32",
          dims: ["batch", entry.dimension],
        },
      ]);
    });

  for (const name of small)
    test(`${name} gives unit features of crops once it is made serveable`, async () => {
      const { model, heightPx, widthPx, dimension } = await openEncoder({
        encoder: name,
        seed: 1,
      });
      const size = { heightPx, widthPx };
      await checkServeable(
        writeModel(serveableEncoder(model, { ...size, ...preprocessing })),
        { ...size, dimension },
      );
    });

  test("the same seed gives the same bytes, another one other weights", () => {
    const build = (seed: number) =>
      writeModel(
        encoders.resnet_tiny.build({
          heightPx: 64,
          widthPx: 32,
          seed,
          features: 0,
        }),
      );
    assert.deepEqual(build(1), build(1));
    assert.notDeepEqual(build(1), build(2));
  });

  test("convolutions start Kaiming normal by fan out, norms at 1 and 0", () => {
    const { graph } = encoders.resnet18.build({
      heightPx: 256,
      widthPx: 128,
      seed: 1,
      features: 0,
    });
    const weight = graph.initializers.get("layer4.1.conv2.weight")
      ?.data as Float32Array;
    const variance = weight.reduce((sum, x) => sum + x * x, 0) / weight.length;
    assertClose([variance], [2 / (512 * 9)], { rel: 0.01 });
    assert.ok(graph.initializers.get("bn1.weight")?.data.every((x) => x === 1));
    assert.ok(
      graph.initializers.get("feat_bn.bias")?.data.every((x) => x === 0),
    );
  });

  test("the last stage keeps the size: 16 × 8 before the pooling of a 256 × 128 crop", () => {
    for (const name of ["resnet18", "resnet50", "resnet50_ibn_a"] as const) {
      const model = encoders[name].build({
        heightPx: 256,
        widthPx: 128,
        seed: 1,
        features: 0,
      });
      const pool = model.graph.nodes.find(
        ({ opType }) => opType === "GlobalAveragePool",
      );
      const dims = checkGraph(model).get(pool?.inputs[0] ?? "")?.dims;
      assert.deepEqual(dims?.slice(2), [16, 8], name);
    }
  });

  test("IBN-a splits the first norm of stages 1 to 3 and no other", () => {
    const { graph } = encoders.resnet50_ibn_a.build({
      heightPx: 256,
      widthPx: 128,
      seed: 1,
      features: 0,
    });
    const instanceNorms = graph.nodes.filter(
      ({ opType }) => opType === "InstanceNormalization",
    );
    assert.deepEqual(
      instanceNorms.map(({ name }) => name.replace(/\.IN$/, "")),
      [3, 4, 6].flatMap((count, stage) =>
        Array.from({ length: count }, (_, i) => `layer${stage + 1}.${i}.bn1`),
      ),
    );
    assert.deepEqual(
      graph.initializers.get("layer2.0.bn1.IN.weight")?.dims,
      [64],
    );
    assert.deepEqual(
      graph.initializers.get("layer2.0.bn1.BN.weight")?.dims,
      [64],
    );
  });

  test("a linear layer to the asked dimension stands before the head's norm", () => {
    const model = encoders.resnet_tiny.build({
      heightPx: 64,
      widthPx: 32,
      seed: 1,
      features: 48,
    });
    checkGraph(model);
    assert.deepEqual(model.graph.outputs[0].dims, ["batch", 48]);
    assert.deepEqual(
      model.graph.initializers.get("feat.weight")?.dims,
      [48, 128],
    );
  });
});

const osnet = "encoder/osnet_x0_25_msmt17.onnx";
describe(
  "osnet_x0_25 against torchreid's",
  { skip: realMissing(osnet) },
  () => {
    test("with the weights of the file, taken by name, it gives the file's features", async () => {
      const file = join(realFolder, osnet);
      const { model, weights, pretrained } = await openEncoder({
        encoder: "osnet_x0_25",
        seed: 1,
        weights: file,
      });
      assert.ok(pretrained);
      assert.equal(weights?.matched.length, model.graph.initializers.size);
      assert.deepEqual(
        [weights?.missing, weights?.reshaped, weights?.unused],
        [[], [], []],
      );
      const data = Float32Array.from({ length: 2 * 3 * 256 * 128 }, (_, i) =>
        Math.sin(i * i),
      );
      const image = {
        dataType: "float32" as const,
        dims: [2, 3, 256, 128],
        data,
      };
      const [own, theirs] = [
        await createRunner(writeModel(model)),
        await createRunner(readFileSync(file)),
      ];
      const received = (await own.run({ image }))["feature"]
        .data as Float32Array;
      const expected = (await theirs.run({ images: image }))["features"]
        .data as Float32Array;
      assertClose(received, expected, { abs: 1e-6 });
      await own.close();
      await theirs.close();
    });
  },
);
