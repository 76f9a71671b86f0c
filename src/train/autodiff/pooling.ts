import { string } from "#onnx/builder";
import type { ValueInfo } from "#onnx/graph";
import { numberOf, resolvedPads } from "./convolution.js";
import type { GradientBuilder } from "./gradient-builder.js";
import {
  type DifferentiatedNode,
  type GradientRule,
  intOf,
  intsOf,
  oneOutput,
} from "./gradient-rule.js";

/** Pooling over the spatial axes. */
export type PoolingOp =
  "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool";

export const poolingRules: Readonly<Record<PoolingOp, GradientRule>> = {
  // y = mean over each window      dx = Σ over the windows that hold x of dy / n
  AveragePool: oneOutput((forward, dy, g) => [
    averagePoolGradient(forward, dy, g),
  ]),

  // y = largest of each window     dx = Σ over the windows whose first largest is x of dy, as PyTorch has it
  MaxPool: oneOutput((forward, dy, g) => {
    if (intOf(forward, "storage_order", 0) !== 0)
      forward.unsupported(
        "its indices are column-major",
        "use storage_order 0",
      );
    const { x, y } = forward;
    const indices = forward.output(1, { dims: y.dims, dataType: "int64" });
    const total = g.reshape(g.zerosLike(x), ["elements"]);
    const dx = g.emit(
      "ScatterElements",
      [total, g.reshape(indices, ["windows"]), g.reshape(dy, ["windows"])],
      { dims: ["elements"] },
      { attributes: { reduction: string("add") } },
    );
    return [g.reshapeLike(dx, x)];
  }),

  // y = mean of all positions      dx = dy / n, stretched
  GlobalAveragePool: oneOutput(({ x }, dy, g) => {
    const axes = x.dims.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
    return [g.expandLike(g.div(dy, g.count(x, axes)), x)];
  }),

  // y = largest of all positions   dx = dy · [x = y], shared evenly between equals, as PyTorch's amax has it
  GlobalMaxPool: oneOutput(({ x, y }, dy, g) => {
    const axes = x.dims.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
    const mask = g.equal(x, y);
    return [g.mul(mask, g.div(dy, g.sum(mask, axes, "keep")))];
  }),
};

/** Spreads dy / n over the windows: each of the kernel's positions is one strided, shifted copy. */
function averagePoolGradient(
  forward: DifferentiatedNode & {
    readonly x: ValueInfo;
    readonly y: ValueInfo;
  },
  dy: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const { x, y } = forward;
  const kernel = intsOf(forward, "kernel_shape");
  if (kernel?.length !== 2)
    return forward.unsupported(
      "its window is not two-dimensional",
      "pool over height and width",
    );
  const strides = intsOf(forward, "strides") ?? [1, 1];
  const dilations = intsOf(forward, "dilations") ?? [1, 1];
  const pads = resolvedPads(forward, { kernel, strides, dilations, x });
  const input = [numberOf(forward, x.dims[2]), numberOf(forward, x.dims[3])];
  const output = [numberOf(forward, y.dims[2]), numberOf(forward, y.dims[3])];
  const counts = windowCounts(
    { kernel, strides, dilations, pads, input, output },
    intOf(forward, "count_include_pad", 0) === 1,
  );
  const share = g.mul(
    dy,
    g.constant({ dataType: "float32", dims: [1, 1, ...output], data: counts }),
  );
  // The sum over windows is a depthwise transposed convolution with a kernel of ones: channels as batch.
  const channelsAsBatch = g.reshape(share, ["planes", 1, ...output]);
  const extent = input.map(
    (_, i) => (output[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1,
  );
  const spread = g.emit(
    "ConvTranspose",
    [
      channelsAsBatch,
      g.constant({
        dataType: "float32",
        dims: [1, 1, ...kernel],
        data: new Float32Array(kernel[0] * kernel[1]).fill(1),
      }),
    ],
    { dims: ["planes", 1, ...extent] },
    {
      attributes: {
        strides: { type: "ints", value: strides },
        dilations: { type: "ints", value: dilations },
      },
    },
  );
  const fitted = g.pad(
    spread,
    [0, 0, -pads[0], -pads[1]],
    [0, 0, pads[0] + input[0] - extent[0], pads[1] + input[1] - extent[1]],
  );
  return g.reshapeLike(fitted, x);
}

/** 1/n for each window: n counts the positions inside the input, or inside the padded input. */
function windowCounts(
  shape: {
    readonly kernel: readonly number[];
    readonly strides: readonly number[];
    readonly dilations: readonly number[];
    readonly pads: readonly number[];
    readonly input: readonly number[];
    readonly output: readonly number[];
  },
  isPaddingCounted: boolean,
): Float32Array<ArrayBuffer> {
  const along = (axis: number) =>
    Array.from({ length: shape.output[axis] }, (_, position) => {
      const start = position * shape.strides[axis] - shape.pads[axis];
      const low = isPaddingCounted ? -shape.pads[axis] : 0;
      const high =
        shape.input[axis] + (isPaddingCounted ? shape.pads[axis + 2] : 0);
      let count = 0;
      for (let k = 0; k < shape.kernel[axis]; k++) {
        const at = start + k * shape.dilations[axis];
        if (at >= low && at < high) count++;
      }
      return count;
    });
  const [rows, columns] = [along(0), along(1)];
  return Float32Array.from(
    rows.flatMap((row) => columns.map((column) => 1 / (row * column))),
  );
}
