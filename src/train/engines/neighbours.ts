import { int, GraphBuilder } from "#onnx/builder";
import type { Model } from "#onnx/graph";
import type { CompileGraph } from "./graph-session.js";

/** Rows whose similarities to all others are held at once: 256 · 12,936 numbers are 13 MB. */
const BLOCK_ROWS = 256;

/** What is searched. */
export interface NeighbourInput {
  /** float32 [N, D], unit rows; only read. */
  readonly features: Float32Array;
  /** D */
  readonly dimension: number;
  /** k ≤ N */
  readonly k: number;
}

/**
 * For each row its k nearest rows by falling inner product, ties by index, itself first.
 *
 * Block by block a product with all rows and TopK, which onnxruntime breaks ties in by index.
 *
 * @returns int32 [N, k]
 */
export async function nearestRows(
  { features, dimension, k }: NeighbourInput,
  compile: CompileGraph,
): Promise<Int32Array> {
  const count = features.length / dimension;
  const result = new Int32Array(count * k);
  if (count === 0 || k === 0) return result;
  const graph = await compile(nearestModel(dimension, k));
  try {
    const all = {
      dataType: "float32",
      dims: [count, dimension],
      data: features,
    } as const;
    for (let start = 0; start < count; start += BLOCK_ROWS) {
      const end = Math.min(count, start + BLOCK_ROWS);
      const rows = features.subarray(start * dimension, end * dimension);
      const block = {
        dataType: "float32",
        dims: [end - start, dimension],
        data: rows,
      } as const;
      const { indices } = await graph.run({ block, all }, {}, ["indices"]);
      const found = indices.data as Int32Array;
      for (let row = start; row < end; row++)
        placeSelfFirst(
          found.subarray((row - start) * k, (row - start + 1) * k),
          row,
        );
      result.set(found, start * k);
    }
  } finally {
    await graph.close();
  }
  return result;
}

/** Moves `self` to the front; where equal rows crowded it out, the last one makes room. */
function placeSelfFirst(neighbours: Int32Array, self: number): void {
  const at = neighbours.indexOf(self);
  neighbours.copyWithin(1, 0, at === -1 ? neighbours.length - 1 : at);
  neighbours[0] = self;
}

/** (block [b, D], all [N, D]) → indices int32 [b, k] */
function nearestModel(dimension: number, k: number): Model {
  const builder = new GraphBuilder("neighbours");
  const block = builder.input("block", "float32", ["block", dimension]);
  const all = builder.input("all", "float32", ["rows", dimension]);
  const similarities = builder.op("Gemm", [block, all], { transB: int(1) });
  const [, indices] = builder.node("TopK", [similarities, builder.ints([k])], {
    outputs: 2,
    attributes: { axis: int(1), largest: int(1), sorted: int(1) },
  });
  const narrow = builder.op("Cast", [indices], { to: int(6) });
  builder.output(narrow, "int32", ["block", k], "indices");
  return { graph: builder.build(), opset: 17, irVersion: 8, metadata: {} };
}
