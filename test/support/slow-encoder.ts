import { writeBundle } from "#core/manifest";
import { randomStream } from "#core/random";
import { GraphBuilder, int, ints } from "#onnx/builder";
import { writeModel } from "#onnx/model";
import { tiny } from "./tiny-bundle.js";

const width = 1024;
const layers = 160;

/**
 * Publishes an encoder that takes its time: a batch is in it for some tenths of a second.
 *
 * One layer again and again, so that it is small on disk.
 */
export async function writeSlowBundle(
  modelsFolder: string,
  name: string,
): Promise<void> {
  const { heightPx, widthPx, dimension } = tiny;
  const random = randomStream(1, "slow-encoder");
  const inputs = heightPx * widthPx * 3;
  const g = new GraphBuilder("slow");
  const weights = (key: string, rows: number, columns: number) =>
    g.initializer(key, {
      dataType: "float32",
      dims: [rows, columns],
      // A random matrix of this size keeps lengths as they are.
      data: Float32Array.from(
        { length: rows * columns },
        () => random.normal() / Math.sqrt(rows),
      ),
    });
  const image = g.input("image", "uint8", ["batch", heightPx, widthPx, 3]);
  const pixels = g.op("Cast", [image], { to: int(1) });
  const flat = g.op("Reshape", [pixels, g.ints([-1, inputs])]);
  const layer = weights("layer", width, width);
  let value = g.op("MatMul", [flat, weights("first", inputs, width)]);
  for (let i = 0; i < layers; i++) value = g.op("MatMul", [value, layer]);
  const last = g.op("MatMul", [value, weights("last", width, dimension)]);
  const length = g.op("ReduceL2", [last], { axes: ints(1), keepdims: int(1) });
  const feature = g.op("Div", [last, length]);
  g.output(feature, "float32", ["batch", dimension], "feature");
  await writeBundle(
    modelsFolder,
    name,
    writeModel({
      graph: g.build(),
      opset: 13,
      irVersion: 8,
      metadata: {},
    }),
    tiny,
  );
}
