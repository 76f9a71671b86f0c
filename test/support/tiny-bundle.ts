import { randomStream } from "#core/random";
import { writeBundle, type Bundle } from "#core/manifest";
import { GraphBuilder, int, ints } from "#onnx/builder";
import { writeModel } from "#onnx/model";

/** Size of the tiny encoder's input and output. */
export const tiny = { heightPx: 16, widthPx: 8, dimension: 12 } as const;

/**
 * Publishes an encoder of one random linear layer, so that tests have a real one that costs nothing.
 *
 * @param seed  other seeds are other encoders
 */
export function writeTinyBundle(
  modelsFolder: string,
  name = "tiny",
  seed = 1,
): Promise<Bundle> {
  return writeBundle(modelsFolder, name, tinyEncoder(seed), {
    ...tiny,
    metrics: { mAP: 0.5 },
  });
}

/** ONNX bytes: `image` uint8 [batch, 16, 8, 3] → `feature` float32 [batch, 12], unit. */
export function tinyEncoder(seed = 1): Uint8Array {
  const { heightPx, widthPx, dimension } = tiny;
  const random = randomStream(seed, "tiny-encoder");
  const inputs = heightPx * widthPx * 3;
  const weights = Float32Array.from(
    { length: inputs * dimension },
    () => random.normal() / 255,
  );
  const g = new GraphBuilder("tiny");
  const image = g.input("image", "uint8", ["batch", heightPx, widthPx, 3]);
  const pixels = g.op("Cast", [image], { to: int(1) });
  const flat = g.op("Reshape", [pixels, g.ints([-1, inputs])]);
  const layer = g.initializer("weights", {
    dataType: "float32",
    dims: [inputs, dimension],
    data: weights,
  });
  const projected = g.op("MatMul", [flat, layer]);
  // A crop of zeros still has a direction.
  const shifted = g.op("Add", [projected, g.constant(0.01)]);
  const squares = g.op("ReduceL2", [shifted], {
    axes: ints(1),
    keepdims: int(1),
  });
  const feature = g.op("Div", [shifted, squares]);
  g.output(feature, "float32", ["batch", dimension], "feature");
  return writeModel({
    graph: g.build(),
    opset: 13,
    irVersion: 8,
    metadata: {},
  });
}
