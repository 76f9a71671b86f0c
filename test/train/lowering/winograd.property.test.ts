import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { GraphBuilder, ints } from "#onnx/builder";
import type { ValueInfo } from "#onnx/graph";
import { writeModel } from "#onnx/model";
import { randomStream } from "#core/random";
import { GradientBuilder } from "#train/autodiff/gradient-builder";
import { createRunner } from "#train/engines/onnxruntime";
import { TiledConvolution } from "#train/lowering/winograd";

/** Root mean square of the error, of that of the result. */
const TOLERANCE = 1e-5;

const shapes = fc.record({
  batch: fc.integer({ min: 1, max: 3 }),
  channels: fc.integer({ min: 1, max: 5 }),
  outChannels: fc.integer({ min: 1, max: 5 }),
  height: fc.integer({ min: 3, max: 11 }),
  width: fc.integer({ min: 3, max: 11 }),
  pads: fc.tuple(...[0, 1, 2, 3].map(() => fc.integer({ min: 0, max: 2 }))),
});

describe("a tiled convolution", () => {
  test("equals the plain one, forward and in both gradients, whatever the shape", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async (shape) => {
        for (const [name, { tiled, plain }] of await bothWays(shape))
          assert.ok(
            relativeError(tiled, plain) < TOLERANCE,
            `${name}: ${relativeError(tiled, plain)}`,
          );
      }),
      { numRuns: 25, seed: 5 },
    );
  });
});

type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

/** Each result by tiles, and by onnxruntime's Conv or by its sums written out. */
async function bothWays({
  batch,
  channels,
  outChannels,
  height,
  width,
  pads,
}: Shape): Promise<
  [string, { readonly tiled: Float32Array; readonly plain: Float32Array }][]
> {
  const [top, left, bottom, right] = pads;
  const outHeight = height + top + bottom - 2;
  const outWidth = width + left + right - 2;
  const builder = new GraphBuilder("tiled");
  const g = new GradientBuilder(builder, 17, "tiled");
  const inputs: Record<string, number[]> = {
    x: [batch, channels, height, width],
    w: [outChannels, channels, 3, 3],
    dy: [batch, outChannels, outHeight, outWidth],
  };
  const [x, w, dy] = Object.entries(inputs).map(([name, dims]): ValueInfo => ({
    name: builder.input(name, "float32", dims),
    dataType: "float32",
    dims,
  }));
  const geometry = {
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pads,
    group: 1,
  };
  const tiling = new TiledConvolution(geometry, x, dy, g);
  const results = {
    y: tiling.forward(x, w),
    dx: tiling.inputGradient(dy, w),
    dw: tiling.weightGradient(x, dy),
    conv: g.emit(
      "Conv",
      [x, w],
      { dims: dy.dims },
      { attributes: { kernel_shape: ints(3, 3), pads: ints(...pads) } },
    ),
  };
  for (const [name, { name: value, dims }] of Object.entries(results))
    builder.output(value, "float32", dims, name);
  const runner = await createRunner(
    writeModel({
      graph: builder.build(),
      opset: 17,
      irVersion: 8,
      metadata: {},
    }),
    { threads: 1 },
  );
  try {
    const random = randomStream(3, "tiled", JSON.stringify(inputs));
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, dims]) => {
        const length = dims.reduce((product, dim) => product * dim, 1);
        const data = Float32Array.from({ length }, () => random.normal());
        return [name, { dataType: "float32" as const, dims, data }];
      }),
    );
    const outputs = await runner.run(feeds);
    const of = (name: string) => outputs[name].data as Float32Array;
    // The gradients by their definition: every product of the convolution, once for each of its factors.
    const dx = new Float32Array(feeds.x.data.length);
    const dw = new Float32Array(feeds.w.data.length);
    for (let b = 0; b < batch; b++)
      for (let o = 0; o < outChannels; o++)
        for (let at = 0; at < outHeight * outWidth; at++) {
          const [r, c] = [
            Math.floor(at / outWidth) - top,
            (at % outWidth) - left,
          ];
          const cotangent =
            feeds.dy.data[(b * outChannels + o) * outHeight * outWidth + at];
          for (let k = 0; k < channels * 9; k++) {
            const channel = Math.floor(k / 9);
            const [p, q] = [r + Math.floor((k % 9) / 3), c + (k % 3)];
            if (p < 0 || q < 0 || p >= height || q >= width) continue;
            const pixel = ((b * channels + channel) * height + p) * width + q;
            const weight = o * channels * 9 + k;
            dx[pixel] += cotangent * feeds.w.data[weight];
            dw[weight] += cotangent * feeds.x.data[pixel];
          }
        }
    return [
      ["y", { tiled: of("y"), plain: of("conv") }],
      ["dx", { tiled: of("dx"), plain: dx }],
      ["dw", { tiled: of("dw"), plain: dw }],
    ];
  } finally {
    await runner.close();
  }
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  const norm = (values: Float32Array) => Math.hypot(...values);
  return norm(actual.map((x, i) => x - expected[i])) / (norm(expected) + 1e-6);
}
