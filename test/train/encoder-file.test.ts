import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { writeBundle, writeBundleFolder } from "#core/manifest";
import { BundleNotFoundError, ManifestError } from "#core/manifest-errors";
import { GraphBuilder, int, ints } from "#onnx/builder";
import { OnnxMalformedError } from "#onnx/errors";
import type { Model, Tensor } from "#onnx/graph";
import { readModel, writeModel } from "#onnx/model";
import { PIXEL_DEVIATION, PIXEL_MEAN } from "#train/augmentation";
import { encoderFromModel, openEncoder } from "#train/encoder-file";
import { encoders } from "#train/encoders";
import {
  EncoderInputsError,
  EncoderNotFoundError,
  EncoderOutputError,
  EncoderSizeError,
  FeatureNodeNotFoundError,
  WeightsUnmatchedError,
} from "#train/errors";
import { serveableEncoder } from "#train/export";
import { goldenFolder } from "../support/golden.js";
import { tiny, tinyEncoder } from "../support/tiny-bundle.js";

const weight = (...dims: number[]): Tensor => {
  const length = dims.reduce((product, dim) => product * dim, 1);
  return {
    dataType: "float32",
    dims,
    data: Float32Array.from({ length }, (_, i) => Math.cos(i)),
  };
};

/** A small network for crops of 8 × 4 that ends as `finish` says. */
function network(
  finish: (g: GraphBuilder, pooled: string) => void,
  batch: number | string = "batch",
): Model {
  const g = new GraphBuilder("net");
  const image = g.input("pixels", "float32", [batch, 3, 8, 4]);
  const map = g.op(
    "Conv",
    [image, g.initializer("w", weight(6, 3, 3, 3))],
    { pads: ints(1, 1, 1, 1) },
    "conv",
  );
  finish(g, g.op("GlobalAveragePool", [map], {}, "pool"));
  return { graph: g.build(), opset: 17, irVersion: 8, metadata: {} };
}

const flattened = (g: GraphBuilder, pooled: string) =>
  void g.output(
    g.op("Flatten", [pooled], {}, "flat"),
    "float32",
    ["batch", 6],
    "feature",
  );

describe("encoderFromModel", () => {
  test("takes one image in and one feature out, at its own size", () => {
    const { heightPx, widthPx, dimension, pretrained } = encoderFromModel(
      network(flattened),
      {},
    );
    assert.deepEqual(
      { heightPx, widthPx, dimension, pretrained },
      { heightPx: 8, widthPx: 4, dimension: 6, pretrained: true },
    );
  });

  test("takes another size where the network is convolutional up to its pooling", () => {
    const { model, dimension } = encoderFromModel(network(flattened), {
      heightPx: 32,
      widthPx: 16,
    });
    assert.deepEqual(model.graph.inputs[0].dims, ["batch", 3, 32, 16]);
    assert.equal(dimension, 6);
  });

  test("flattens a feature that pooling left as [batch, D, 1, 1]", () => {
    const pooled = network(
      (g, value) => void g.output(value, "float32", ["batch", 6, 1, 1]),
    );
    assert.deepEqual(encoderFromModel(pooled, {}).model.graph.outputs[0].dims, [
      "batch",
      6,
    ]);
  });

  test("opens a batch of 1 that the exporter wrote into a Reshape", () => {
    for (const target of [
      [1, 6],
      [1, -1],
    ]) {
      const fixed = network((g, value) => {
        const shape = g.op("Constant", [], {
          value: {
            type: "tensor",
            value: {
              dataType: "int64",
              dims: [2],
              data: BigInt64Array.from(target, BigInt),
            },
          },
        });
        g.output(g.op("Reshape", [value, shape]), "float32", [1, 6], "feature");
      }, 1);
      const { model } = encoderFromModel(fixed, {});
      assert.deepEqual(
        model.graph.outputs[0].dims,
        ["batch", 6],
        `target ${target.join(", ")}`,
      );
    }
  });

  test("refuses a size that does not go through, with the reason", () => {
    const fixed = network((g, value) => {
      const wide = g.op("Flatten", [value]);
      g.output(
        g.op("Gemm", [wide, g.initializer("fc", weight(6, 4))]),
        "float32",
        ["batch", 4],
        "feature",
      );
    });
    encoderFromModel(fixed, { heightPx: 16, widthPx: 16 });
    const vit = readGolden("vit_tiny");
    assert.throws(
      () => encoderFromModel(vit, { heightPx: 64, widthPx: 64 }),
      EncoderSizeError,
    );
  });

  test("refuses two inputs, naming both", () => {
    const two = network((g, value) => {
      const other = g.input("camera", "float32", ["batch", 6, 1, 1]);
      g.output(
        g.op("Add", [value, other]),
        "float32",
        ["batch", 6, 1, 1],
        "feature",
      );
    });
    assert.throws(
      () => encoderFromModel(two, {}),
      (error) => {
        assert.ok(error instanceof EncoderInputsError);
        assert.match(
          error.message,
          /2 inputs "pixels" float32 \[batch, 3, 8, 4\] and "camera"/,
        );
        return true;
      },
    );
  });

  test("refuses an input that is no image", () => {
    const g = new GraphBuilder("net");
    g.output(
      g.op("Relu", [g.input("x", "float32", ["batch", 7])]),
      "float32",
      ["batch", 7],
      "y",
    );
    const model = { graph: g.build(), opset: 17, irVersion: 8, metadata: {} };
    assert.throws(() => encoderFromModel(model, {}), EncoderInputsError);
  });

  test("refuses a file that ends in no feature: a map, labels, several outputs", () => {
    const endings: readonly ((g: GraphBuilder, pooled: string) => void)[] = [
      (g) => void g.output("conv:0", "float32", ["batch", 6, 8, 4]),
      (g, value) =>
        void g.output(
          g.op("ArgMax", [value], { axis: int(1), keepdims: int(0) }),
          "int64",
          ["batch", 1, 1],
          "label",
        ),
      (g, value) => {
        flattened(g, value);
        g.output("conv:0", "float32", ["batch", 6, 8, 4]);
      },
    ];
    for (const ending of endings)
      assert.throws(
        () => encoderFromModel(network(ending), {}),
        EncoderOutputError,
      );
  });

  test("cuts a classifier off at the feature node, by the node's name or the value's", () => {
    const classifier = network((g, value) => {
      const feature = g.op("Flatten", [value], {}, "flat");
      g.output(
        g.op("Gemm", [feature, g.initializer("classes", weight(6, 100))]),
        "float32",
        ["batch", 100],
        "logits",
      );
    });
    assert.equal(encoderFromModel(classifier, {}).dimension, 100);
    for (const featureNode of ["flat", "flat:0"]) {
      const { model, dimension } = encoderFromModel(classifier, {
        featureNode,
      });
      assert.equal(dimension, 6);
      assert.ok(!model.graph.initializers.has("classes"));
    }
    assert.throws(
      () => encoderFromModel(classifier, { featureNode: "nowhere" }),
      (error) => {
        assert.ok(error instanceof FeatureNodeNotFoundError);
        assert.match(
          error.message,
          /no node or value "nowhere": the last ones of shape \[batch, D\] are flat, Gemm/,
        );
        return true;
      },
    );
  });
});

function readGolden(name: string): Model {
  return readModel(readFileSync(join(goldenFolder, `encoders/${name}.onnx`)));
}

describe("openEncoder", () => {
  let folder = "";
  before(async () => void (folder = await mkdtemp(join(tmpdir(), "encoder-"))));
  after(() => rm(folder, { recursive: true }));

  const file = async (name: string, bytes: Uint8Array): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return path;
  };

  test("refuses a word that is neither a name nor a file, listing the names", async () => {
    await assert.rejects(
      openEncoder({ encoder: "resnet-50", seed: 1 }),
      (error) => {
        assert.ok(error instanceof EncoderNotFoundError);
        assert.match(error.message, /a bundle, or one of .*resnet50_ibn_a/);
        return true;
      },
    );
  });

  test("refuses a file that is no ONNX", async () => {
    const path = await file("text.onnx", Buffer.from("this is no encoder"));
    await assert.rejects(
      openEncoder({ encoder: path, seed: 1 }),
      OnnxMalformedError,
    );
  });

  test("takes a bundle by its folder, its run's or MODELS/NAME as the trained start that its encoder is", async () => {
    const size = { heightPx: 8, widthPx: 4 };
    const facts = { ...size, dimension: 6 };
    const encoder = writeModel(
      serveableEncoder(network(flattened), {
        ...size,
        mean: PIXEL_MEAN,
        std: PIXEL_DEVIATION,
        scale: 1 / 255,
      }),
    );
    const models = join(folder, "models");
    for (const bytes of [tinyEncoder(), encoder])
      await writeBundle(models, "door", bytes, facts);
    const run = join(folder, "run");
    await writeBundleFolder(join(run, "bundle"), "hall", encoder, facts);
    const paths = [
      [join(models, "door"), "door/2"],
      [join(models, "door/2"), "door/2"],
      [run, "hall/0"],
      [join(run, "bundle"), "hall/0"],
    ];
    for (const [path, expected] of paths) {
      const { name, model, pretrained, dimension } = await openEncoder({
        encoder: path,
        seed: 1,
      });
      assert.deepEqual(
        [name, pretrained, dimension, model.graph.inputs[0].dims],
        [expected, true, 6, ["batch", 3, 8, 4]],
      );
      assert.deepEqual(model.graph.initializers.get("w"), weight(6, 3, 3, 3));
    }
  });

  test("refuses a folder without a bundle, and a bundle whose bytes are others", async () => {
    await assert.rejects(
      openEncoder({ encoder: folder, seed: 1 }),
      BundleNotFoundError,
    );
    const facts = { ...tiny, metrics: {} };
    const bundle = join(folder, "broken");
    await writeBundleFolder(bundle, "broken", tinyEncoder(), facts);
    await writeFile(join(bundle, "encoder.onnx"), tinyEncoder(2));
    await assert.rejects(
      openEncoder({ encoder: bundle, seed: 1 }),
      ManifestError,
    );
  });

  test("takes weights by name and shape and tells what did not fit", async () => {
    const original = encoders.resnet_tiny.build({
      heightPx: 64,
      widthPx: 32,
      seed: 5,
      features: 0,
    });
    const initializers = new Map(
      [...original.graph.initializers]
        .filter(([name]) => name !== "conv1.weight")
        .map(([name, tensor]) => [
          `module.${name}`,
          name === "bn1.bias" ? weight(3) : tensor,
        ]),
    );
    initializers.set("module.classifier.weight", weight(2, 128));
    // Only the initializers are looked at; a graph around them that uses none is enough.
    const g = new GraphBuilder("weights");
    for (const [name, tensor] of initializers) g.initializer(name, tensor);
    g.output(g.op("Relu", [g.input("x", "float32", [1])]), "float32", [1], "y");
    const path = await file(
      "weights.onnx",
      writeModel({ ...original, graph: g.build() }),
    );
    const { model, weights, pretrained } = await openEncoder({
      encoder: "resnet_tiny",
      seed: 1,
      weights: path,
    });
    assert.ok(pretrained);
    assert.deepEqual(weights?.missing, ["conv1.weight"]);
    assert.deepEqual(weights.reshaped, [
      { name: "bn1.bias", expected: [16], received: [3] },
    ]);
    assert.deepEqual(weights.unused, ["module.classifier.weight"]);
    assert.equal(weights.matched.length, original.graph.initializers.size - 2);
    assert.deepEqual(
      model.graph.initializers.get("layer4.0.conv2.weight"),
      original.graph.initializers.get("layer4.0.conv2.weight"),
    );
  });

  test("refuses a weights file of which nothing fits", async () => {
    const path = await file("other.onnx", writeModel(network(flattened)));
    await assert.rejects(
      openEncoder({ encoder: "resnet_tiny", seed: 1, weights: path }),
      WeightsUnmatchedError,
    );
  });
});
