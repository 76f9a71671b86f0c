import { int, string } from "#onnx/builder";
import type { ValueInfo } from "#onnx/graph";
import { positiveAxis } from "./dimensions.js";
import type { GradientBuilder } from "./gradient-builder.js";
import {
  type DifferentiatedNode,
  type GradientRule,
  intOf,
  intsOf,
  oneOutput,
  stringOf,
} from "./gradient-rule.js";

/** Operators that move elements and compute nothing. */
export type MovementOp =
  | "Reshape"
  | "Flatten"
  | "Squeeze"
  | "Unsqueeze"
  | "Transpose"
  | "Concat"
  | "Split"
  | "Slice"
  | "Gather"
  | "Expand"
  | "Pad"
  | "Tile"
  | "DepthToSpace"
  | "SpaceToDepth";

const reshaped: GradientRule = oneOutput(({ x }, dy, g) => [
  g.reshapeLike(dy, x),
]);

export const movementRules: Readonly<Record<MovementOp, GradientRule>> = {
  // y = x in another shape         dx = dy in x's shape
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,

  // y = x, axes permuted           dx = dy, axes permuted back
  Transpose: oneOutput((forward, dy, g) => {
    const rank = forward.x.dims.length;
    const perm =
      intsOf(forward, "perm") ??
      Array.from({ length: rank }, (_, i) => rank - 1 - i);
    const inverse: number[] = [];
    perm.forEach((axis, i) => (inverse[axis] = i));
    return [g.transpose(dy, inverse)];
  }),

  // y = a, then b, …    each gets its stretch of dy
  Concat: (forward, [dy], g) => {
    if (dy === undefined) return [];
    const axis = positiveAxis(intOf(forward, "axis", 0), dy.dims.length);
    return split(
      forward,
      dy,
      { sizes: forward.inputs.map((x) => x?.dims[axis] ?? 0), axis },
      g,
    );
  },

  // y₁, y₂, … = x, cut             dx = dy₁, then dy₂, …; zeros where none arrives
  Split: (forward, cotangents, g) => {
    const [x] = forward.inputs;
    if (x === undefined) return [];
    const axis = positiveAxis(intOf(forward, "axis", 0), x.dims.length);
    const parts = forward.outputs.flatMap((y, i) =>
      y ? [cotangents[i] ?? g.zerosLike(y)] : [],
    );
    return [g.concat(parts, axis)];
  },

  // y = x[start : end : step]      dx = dy there, zeros elsewhere
  Slice: oneOutput((forward, dy, g) => [sliceGradient(forward, dy, g)]),

  // y = rows of x by index         dx = Σ of the rows of dy with the same index
  Gather: oneOutput((forward, dy, g) => [gatherGradient(forward, dy, g)]),

  // y = x, stretched    dx = dy, summed over the stretched axes
  Expand: oneOutput(({ x }, dy, g) => [g.sumTo(dy, x.dims)]),

  // y = x inside a frame           dx = dy without the frame
  Pad: oneOutput((forward, dy, g) => {
    if (stringOf(forward, "mode", "constant") !== "constant")
      forward.unsupported("it repeats elements", "pad with a constant");
    const pads = forward.constantInts(1);
    if (pads === undefined || forward.inputs[3] !== undefined)
      return forward.unsupported(
        "its widths are computed by the graph",
        "export the encoder with constant pads",
      );
    const rank = forward.x.dims.length;
    return [
      g.pad(
        dy,
        pads.slice(0, rank).map(negative),
        pads.slice(rank).map(negative),
      ),
    ];
  }),

  // y = x, repeated     dx = Σ over the repetitions
  Tile: oneOutput((forward, dy, g) => {
    const repeats = forward.constantInts(1);
    if (repeats === undefined)
      return forward.unsupported(
        "its repeats are computed by the graph",
        "export the encoder with constant repeats",
      );
    const { x } = forward;
    const dims = x.dims.flatMap((dim, axis) => [repeats[axis], dim]);
    const shape = dims.filter((dim) => typeof dim === "string").length;
    if (shape > 1)
      return forward.unsupported(
        "several sizes are not known",
        "fix the encoder's input size",
      );
    return [
      g.reshapeLike(
        g.sum(
          g.reshape(dy, dims),
          x.dims.map((_, axis) => 2 * axis),
        ),
        x,
      ),
    ];
  }),

  // y = channels of x as positions dx = positions of dy as channels
  DepthToSpace: oneOutput((forward, dy, g) => {
    if (stringOf(forward, "mode", "DCR") !== "DCR")
      forward.unsupported(
        "its mode is CRD",
        "use mode DCR, or Reshape and Transpose",
      );
    const blocksize = int(intOf(forward, "blocksize", 1));
    return [
      g.emit(
        "SpaceToDepth",
        [dy],
        { dims: forward.x.dims },
        { attributes: { blocksize } },
      ),
    ];
  }),

  // y = positions of x as channels dx = channels of dy as positions
  SpaceToDepth: oneOutput((forward, dy, g) => {
    const blocksize = int(intOf(forward, "blocksize", 1));
    return [
      g.emit(
        "DepthToSpace",
        [dy],
        { dims: forward.x.dims },
        { attributes: { blocksize, mode: string("DCR") } },
      ),
    ];
  }),
};

/** 0 stays +0: pads are written as integers. */
function negative(n: number): number {
  return 0 - n;
}

function split(
  forward: DifferentiatedNode,
  dy: ValueInfo,
  {
    sizes,
    axis,
  }: { readonly sizes: readonly (number | string)[]; readonly axis: number },
  g: GradientBuilder,
): (ValueInfo | undefined)[] {
  const lengths = sizes.every((size) => typeof size === "number")
    ? g.ints(sizes)
    : g.concat(
        forward.inputs.flatMap((x) =>
          x
            ? [
                g.slice(
                  g.emit("Shape", [x], {
                    dims: [x.dims.length],
                    dataType: "int64",
                  }),
                  [0],
                  [axis],
                  { ends: [axis + 1] },
                ),
              ]
            : [],
        ),
        0,
      );
  return g.emitMany(
    "Split",
    [dy, lengths],
    forward.inputs.map((x) => ({ dims: x?.dims ?? [] })),
    { attributes: { axis: int(axis) } },
  );
}

function sliceGradient(
  forward: DifferentiatedNode & {
    readonly x: ValueInfo;
    readonly y: ValueInfo;
  },
  dy: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const { x, y } = forward;
  const rank = x.dims.length;
  const starts = forward.constantInts(1);
  const axes = forward.inputs[3]
    ? forward.constantInts(3)
    : starts?.map((_, i) => i);
  const steps = forward.inputs[4]
    ? forward.constantInts(4)
    : starts?.map(() => 1);
  if (starts === undefined || axes === undefined || steps === undefined)
    return forward.unsupported(
      "its bounds are computed by the graph",
      "export the encoder with constant bounds",
    );
  const begin = new Array<number>(rank).fill(0);
  const end = new Array<number>(rank).fill(0);
  let spread = dy;
  for (let i = 0; i < axes.length; i++) {
    const axis = positiveAxis(axes[i], rank);
    const size = x.dims[axis];
    const length = y.dims[axis];
    if (size === length && steps[i] === 1) continue;
    if (typeof size !== "number" || typeof length !== "number")
      return forward.unsupported(
        `it cuts the axis "${size}"`,
        "cut axes of known size",
      );
    if (steps[i] < 0)
      return forward.unsupported("its step is negative", "slice forward");
    const start = Math.min(
      starts[i] < 0 ? Math.max(0, starts[i] + size) : starts[i],
      size,
    );
    spread = spaced(spread, axis, steps[i], g);
    begin[axis] = start;
    end[axis] = size - start - ((length - 1) * steps[i] + 1);
  }
  return g.pad(spread, begin, end);
}

/** Puts step − 1 zeros between neighbours along an axis. */
function spaced(
  v: ValueInfo,
  axis: number,
  step: number,
  g: GradientBuilder,
): ValueInfo {
  const length = v.dims[axis];
  if (step === 1 || typeof length !== "number") return v;
  const apart = g.unsqueeze(v, [axis + 1]);
  const zeros = apart.dims.map(() => 0);
  const padded = g.pad(
    apart,
    zeros,
    zeros.map((_, i) => (i === axis + 1 ? step - 1 : 0)),
  );
  const dims = v.dims.map((dim, i) => (i === axis ? length * step : dim));
  const flat = g.emit(
    "Reshape",
    [padded, g.ints(dims.map((dim) => (typeof dim === "string" ? -1 : dim)))],
    { dims },
  );
  return g.slice(flat, [axis], [0], { ends: [(length - 1) * step + 1] });
}

/** One index is a slice put back; many are added up by one product with the one-hot matrix of the indices. */
function gatherGradient(
  forward: DifferentiatedNode & {
    readonly x: ValueInfo;
    readonly y: ValueInfo;
  },
  dy: ValueInfo,
  g: GradientBuilder,
): ValueInfo {
  const { x } = forward;
  const indices = forward.inputs[1];
  const axis = positiveAxis(intOf(forward, "axis", 0), x.dims.length);
  const size = x.dims[axis];
  if (indices === undefined || typeof size !== "number")
    return forward.unsupported(
      `it gathers along the axis "${size}"`,
      "gather along an axis of known size",
    );
  const known = forward.constantInts(1);
  if (known?.length === 1) {
    const at = known[0] < 0 ? known[0] + size : known[0];
    const dims = x.dims.map((dim, i) => (i === axis ? 1 : dim));
    const zeros = x.dims.map(() => 0);
    return g.pad(
      g.reshape(dy, dims, undefined),
      zeros.map((_, i) => (i === axis ? at : 0)),
      zeros.map((_, i) => (i === axis ? size - at - 1 : 0)),
    );
  }
  // y [before, M, after] → rows [M, before · after]; x's cotangent [size, before · after] = one-hotᵀ · rows
  const before = x.dims.slice(0, axis);
  const after = x.dims.slice(axis + 1);
  const middle = indices.dims.map((_, i) => axis + i);
  const rank = dy.dims.length;
  const outer = Array.from({ length: rank }, (_, i) => i).filter(
    (i) => !middle.includes(i),
  );
  const count = indices.dims.reduce<number>(
    (total, dim) => total * (typeof dim === "number" ? dim : NaN),
    1,
  );
  const moved = g.transpose(dy, [...middle, ...outer]);
  const rows = Number.isNaN(count)
    ? g.emit(
        "Reshape",
        [moved, g.ints([-1, elements(before) * elements(after)])],
        { dims: ["indices", "rest"] },
      )
    : g.emit("Reshape", [moved, g.ints([count, -1])], {
        dims: [count, "rest"],
      });
  const depth = g.constant({
    dataType: "int64",
    dims: [],
    data: BigInt64Array.of(BigInt(size)),
  });
  const values = g.constant({
    dataType: "float32",
    dims: [2],
    data: Float32Array.of(0, 1),
  });
  const flatIndices = g.emit("Reshape", [indices, g.ints([-1])], {
    dims: [rows.dims[0]],
    dataType: "int64",
  });
  const oneHot = g.emit("OneHot", [flatIndices, depth, values], {
    dims: [rows.dims[0], size],
  });
  const gathered = g.matMul(oneHot, rows, "left");
  const apart = g.emit(
    "Reshape",
    [gathered, g.shapeOf(transposedLike(x, axis, g))],
    { dims: [size, ...before, ...after] },
  );
  return g.transpose(apart, [
    ...before.map((_, i) => i + 1),
    0,
    ...after.map((_, i) => axis + 1 + i),
  ]);
}

function elements(dims: readonly (number | string)[]): number {
  return dims.reduce<number>((total, dim) => total * Number(dim), 1);
}

/** x with the gathered axis in front; only its shape is read, so onnxruntime drops it where that is constant. */
function transposedLike(
  x: ValueInfo,
  axis: number,
  g: GradientBuilder,
): ValueInfo {
  return g.transpose(x, [
    axis,
    ...x.dims.flatMap((_, i) => (i === axis ? [] : [i])),
  ]);
}
