import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { writeModel } from "#onnx/model";
import { createRunner } from "#train/engines/onnxruntime";
import { encoders } from "#train/encoders";
import { encoderFromModel } from "#train/encoder-file";
import { serveableEncoder } from "#train/export";
import { assertClose } from "../support/close.js";

const size = { heightPx: 64, widthPx: 32 };
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];
const encoder = encoders.resnet_tiny.build({ ...size, seed: 3, features: 0 });

/** Features of the plain encoder over pixels that were normalized in JavaScript, then L2. */
async function expectedFeatures(
  pixels: Uint8Array,
  count: number,
): Promise<Float32Array> {
  const { heightPx, widthPx } = size;
  const area = heightPx * widthPx;
  const data = new Float32Array(count * 3 * area);
  for (let b = 0; b < count; b++)
    for (let c = 0; c < 3; c++)
      for (let p = 0; p < area; p++)
        data[(b * 3 + c) * area + p] =
          (pixels[(b * area + p) * 3 + c] / 255 - mean[c]) / std[c];
  const runner = await createRunner(writeModel(encoder));
  const { feature } = await runner.run({
    image: { dataType: "float32", dims: [count, 3, heightPx, widthPx], data },
  });
  await runner.close();
  const values = Float32Array.from(feature.data as Float32Array);
  const dimension = values.length / count;
  for (let b = 0; b < count; b++) {
    const row = values.subarray(b * dimension, (b + 1) * dimension);
    const norm = Math.hypot(...row);
    row.forEach((x, i) => (row[i] = x / norm));
  }
  return values;
}

describe("serveableEncoder", () => {
  test("takes uint8 pixels in NHWC and gives what preprocessing, encoder and L2 give apart", async () => {
    const count = 3;
    const pixels = Uint8Array.from(
      { length: count * 64 * 32 * 3 },
      (_, i) => (i * 7919) % 256,
    );
    const bytes = writeModel(
      serveableEncoder(encoder, { ...size, mean, std, scale: 1 / 255 }),
    );
    const runner = await createRunner(bytes);
    const image = {
      dataType: "uint8" as const,
      dims: [count, 64, 32, 3],
      data: pixels,
    };
    const { feature } = await runner.run({ image });
    await runner.close();
    assertClose(
      feature.data as Float32Array,
      await expectedFeatures(pixels, count),
      { abs: 1e-5 },
    );
  });

  test("gives the same bytes each time", () => {
    const make = () =>
      writeModel(
        serveableEncoder(encoder, { ...size, mean, std, scale: 1 / 255 }),
      );
    assert.deepEqual(make(), make());
  });

  test("keeps the names of weights, so that a bundle serves as weights file", () => {
    const { graph } = serveableEncoder(encoder, {
      ...size,
      mean,
      std,
      scale: 1 / 255,
    });
    for (const name of encoder.graph.initializers.keys())
      assert.ok(graph.initializers.has(name), name);
  });

  test("is taken off again where a bundle's encoder is opened for training", async () => {
    const bundle = serveableEncoder(encoder, {
      ...size,
      mean,
      std,
      scale: 1 / 255,
    });
    const { model, dimension, heightPx } = encoderFromModel(bundle, {});
    assert.deepEqual([dimension, heightPx], [128, 64]);
    assert.deepEqual(model.graph.inputs[0].dims, ["batch", 3, 64, 32]);
    assert.deepEqual(
      new Set(model.graph.initializers.keys()),
      new Set(encoder.graph.initializers.keys()),
    );
    assert.deepEqual(
      writeModel(
        serveableEncoder(model, { ...size, mean, std, scale: 1 / 255 }),
      ).length,
      writeModel(bundle).length,
    );
  });

  test("another preprocessing than training's stays in front as constants, not weights", async () => {
    const other = {
      ...size,
      mean: [0.5, 0.4, 0.3],
      std: [0.5, 0.25, 1],
      scale: 1 / 128,
    };
    const bundle = serveableEncoder(encoder, other);
    const { model } = encoderFromModel(bundle, {});
    assert.deepEqual(
      new Set(model.graph.initializers.keys()),
      new Set(encoder.graph.initializers.keys()),
    );
    const again = serveableEncoder(model, {
      ...size,
      mean,
      std,
      scale: 1 / 255,
    });
    const pixels = Uint8Array.from(
      { length: 2 * 64 * 32 * 3 },
      (_, i) => (i * 7919) % 256,
    );
    const image = {
      dataType: "uint8" as const,
      dims: [2, 64, 32, 3],
      data: pixels,
    };
    const [expected, received] = await Promise.all(
      [bundle, again].map(async (candidate) => {
        const runner = await createRunner(writeModel(candidate));
        const { feature } = await runner.run({ image });
        await runner.close();
        return feature.data as Float32Array;
      }),
    );
    assertClose(received, expected, { abs: 1e-5 });
  });
});
