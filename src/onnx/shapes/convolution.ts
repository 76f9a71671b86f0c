import {
  addDims,
  ceilDivideDims,
  floorDivideDims,
  multiplyDims,
  subtractDims,
} from "../dimensions.js";
import type { Dimension } from "../graph.js";
import type { Known, RuleContext, ShapeRule } from "./rule.js";

interface Window {
  readonly kernel: readonly Dimension[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin of each axis, then end of each axis. */
  readonly pads: readonly number[];
  readonly autoPad: string;
}

function windowOf(c: RuleContext, kernel: readonly Dimension[]): Window {
  const rank = kernel.length;
  const list = (
    name: string,
    length: number,
    fill: number,
  ): readonly number[] => {
    const values = c.ints(name) ?? new Array<number>(length).fill(fill);
    if (values.length !== length)
      c.fail(`${name} has ${values.length} numbers instead of ${length}`);
    return values;
  };
  return {
    kernel,
    strides: list("strides", rank, 1),
    dilations: list("dilations", rank, 1),
    pads: list("pads", 2 * rank, 0),
    autoPad: c.string("auto_pad"),
  };
}

/** ⌊(size + pads − dilated kernel) / stride⌋ + 1, or rounded up; `SAME_*` gives ⌈size / stride⌉. */
function slideOver(
  c: RuleContext,
  spatial: readonly Dimension[],
  window: Window,
  rounding: "floor" | "ceil",
): Dimension[] {
  return spatial.map((size, i) => {
    const stride = window.strides[i];
    if (window.autoPad.startsWith("SAME")) return ceilDivideDims(size, stride);
    const rank = spatial.length;
    const padding =
      window.autoPad === "VALID" ? 0 : window.pads[i] + window.pads[i + rank];
    const span = addDims(
      multiplyDims(subtractDims(window.kernel[i], 1), window.dilations[i]),
      1,
    );
    const room = subtractDims(addDims(size, padding), span);
    if (typeof room === "number" && room < 0)
      c.fail(
        `a window of ${span} does not fit into ${size} padded by ${padding}`,
      );
    const divide = rounding === "ceil" ? ceilDivideDims : floorDivideDims;
    const count = addDims(divide(room, stride), 1);
    // With rounding up, a last window that would start in the end padding is left out, as onnxruntime does.
    const beyond =
      rounding === "ceil" &&
      typeof count === "number" &&
      typeof size === "number" &&
      (count - 1) * stride >=
        size + (window.autoPad === "VALID" ? 0 : window.pads[i]);
    return beyond ? subtractDims(count, 1) : count;
  });
}

function needRank(c: RuleContext, x: Known): void {
  if (x.dims.length < 3)
    c.fail(`input has ${x.dims.length} dimensions, needs [batch, channels, …]`);
}

/** x [B, C, …], w [M, C/group, …] → y [B, M, …]. */
export const conv: ShapeRule = (c) => {
  const [x, w] = [c.input(0), c.input(1)];
  needRank(c, x);
  if (w.dims.length !== x.dims.length)
    c.fail(`kernel has ${w.dims.length} dimensions, input ${x.dims.length}`);
  c.same(
    x.dims[1],
    multiplyDims(w.dims[1], c.intOf("group")),
    "channels of input and kernel differ",
  );
  const bias = c.inputs[2];
  if (bias !== undefined)
    c.same(bias.dims[0], w.dims[0], "bias and kernel differ");
  const spatial = slideOver(
    c,
    x.dims.slice(2),
    windowOf(c, c.ints("kernel_shape") ?? w.dims.slice(2)),
    "floor",
  );
  return [{ dataType: x.dataType, dims: [x.dims[0], w.dims[0], ...spatial] }];
};

/** x [B, C, …], w [C, M/group, …] → y [B, M, …], stride·(size − 1) + output padding + dilated kernel − pads. */
export const convTranspose: ShapeRule = (c) => {
  const [x, w] = [c.input(0), c.input(1)];
  needRank(c, x);
  c.same(x.dims[1], w.dims[0], "channels of input and kernel differ");
  const window = windowOf(c, c.ints("kernel_shape") ?? w.dims.slice(2));
  const rank = x.dims.length - 2;
  const shape = c.ints("output_shape");
  const extra = c.ints("output_padding");
  const spatial = x.dims.slice(2).map((size, i): Dimension => {
    if (shape !== undefined) return shape[i];
    if (window.autoPad.startsWith("SAME"))
      return multiplyDims(size, window.strides[i]);
    const span = addDims(
      multiplyDims(subtractDims(window.kernel[i], 1), window.dilations[i]),
      1,
    );
    const padding =
      window.autoPad === "VALID" ? 0 : window.pads[i] + window.pads[i + rank];
    const body = multiplyDims(subtractDims(size, 1), window.strides[i]);
    return addDims(addDims(body, span), (extra?.[i] ?? 0) - padding);
  });
  const channels = multiplyDims(w.dims[1], c.intOf("group"));
  return [{ dataType: x.dataType, dims: [x.dims[0], channels, ...spatial] }];
};

/** x [B, C, …] → y [B, C, …]; a second output of MaxPool holds int64 positions in the whole input. */
export const pool: ShapeRule = (c) => {
  const x = c.input(0);
  needRank(c, x);
  const kernel =
    c.ints("kernel_shape") ?? c.fail("attribute kernel_shape is missing");
  if (kernel.length !== x.dims.length - 2)
    c.fail("kernel_shape does not fit the input");
  const spatial = slideOver(
    c,
    x.dims.slice(2),
    windowOf(c, kernel),
    c.int("ceil_mode") === 1 ? "ceil" : "floor",
  );
  const dims = [x.dims[0], x.dims[1], ...spatial];
  return [
    { dataType: x.dataType, dims },
    { dataType: "int64", dims },
  ];
};

/** x [B, C, …] → y [B, C, 1 …]. */
export const globalPool: ShapeRule = (c) => {
  const x = c.input(0);
  needRank(c, x);
  return [
    { dataType: x.dataType, dims: x.dims.map((dim, i) => (i < 2 ? dim : 1)) },
  ];
};

/** x [B, C, …]; scale, bias, mean, variance [C]. In training also the new running mean and variance, [C]. */
export const batchNormalization: ShapeRule = (c) => {
  const x = c.input(0);
  if (x.dims.length < 2)
    c.fail(`input has ${x.dims.length} dimensions, needs [batch, channels, …]`);
  for (let i = 1; i < 5; i++) {
    const { dims } = c.input(i);
    if (dims.length !== 1) c.fail(`input ${i} must have one dimension`);
    c.same(dims[0], x.dims[1], `channels of input ${i} differ`);
  }
  const training = c.int("training_mode") === 1;
  if (!training && c.node.outputs.length > 1)
    c.fail("statistics come out in training mode only");
  const statistics = { dataType: c.input(3).dataType, dims: c.input(3).dims };
  return [{ dataType: x.dataType, dims: x.dims }, statistics, statistics];
};

/** x [B, C, …] with scale and bias per channel. */
export const channelNormalization: ShapeRule = (c) => {
  const x = c.input(0);
  for (const i of [1, 2])
    c.same(c.input(i).dims[0], x.dims[1], `channels of input ${i} differ`);
  return [{ dataType: x.dataType, dims: x.dims }];
};

/** y like x; mean and inverse deviation with the normalized axes at 1. */
export const layerNormalization: ShapeRule = (c) => {
  const x = c.input(0);
  const axis = c.axis(c.intOf("axis"), x.dims.length);
  c.broadcast([x.dims, c.input(1).dims]);
  const dims = x.dims.map((dim, i) => (i < axis ? dim : 1));
  const statistics: Known = { dataType: "float32", dims };
  return [{ dataType: x.dataType, dims: x.dims }, statistics, statistics];
};
