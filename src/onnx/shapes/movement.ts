import {
  addDims,
  ceilDivideDims,
  divideDimsExactly,
  multiplyDims,
  productOfDims,
  subtractDims,
} from "../dimensions.js";
import type { Dimension } from "../graph.js";
import {
  type Known,
  type RuleContext,
  type ShapeRule,
  textOfDims,
} from "./rule.js";

const keep = (
  x: Known,
  dims: readonly Dimension[],
  contents: readonly Dimension[] | undefined,
): Known =>
  contents === undefined
    ? { dataType: x.dataType, dims }
    : { dataType: x.dataType, dims, contents };

/** The target shape with 0 copied from the input (unless allowzero) and −1 found from the rest. */
export const reshape: ShapeRule = (c) => {
  const [x, shape] = [c.input(0), c.input(1)];
  const target = shapeFromContents(c, shape);
  const total = productOfDims(x.dims);
  const dims = target.map((dim, i): Dimension => {
    if (dim !== 0 || c.int("allowzero") === 1) return dim;
    return (
      x.dims[i] ??
      c.fail(
        `0 at ${i} copies a dimension that ${textOfDims(x.dims)} does not have`,
      )
    );
  });
  const free = dims.indexOf(-1);
  if (free >= 0) {
    const rest = productOfDims(dims.filter((_, i) => i !== free));
    const size = divideDimsExactly(total, rest);
    if (
      size === undefined &&
      typeof total === "number" &&
      typeof rest === "number"
    )
      c.fail(
        `${textOfDims(x.dims)} does not divide into ${textOfDims(target)}`,
      );
    dims[free] = size ?? c.unknown("rest");
  } else {
    const product = productOfDims(dims);
    if (
      typeof total === "number" &&
      typeof product === "number" &&
      total !== product
    )
      c.fail(`${textOfDims(x.dims)} does not fit into ${textOfDims(target)}`);
  }
  return [keep(x, dims, x.contents)];
};

/** The elements of a shape tensor, unknown ones by a name of their own. */
function shapeFromContents(c: RuleContext, shape: Known): readonly Dimension[] {
  if (shape.contents !== undefined) return shape.contents;
  const count = shape.dims[0] ?? 0;
  if (typeof count !== "number")
    c.fail("the rank of the result is not known before the run");
  return Array.from({ length: count }, (_, i) => c.unknown(String(i)));
}

/** [B, …] before the axis and after it. */
export const flatten: ShapeRule = (c) => {
  const x = c.input(0);
  const given = c.intOf("axis");
  const axis = given < 0 ? given + x.dims.length : given;
  const dims = [
    productOfDims(x.dims.slice(0, axis)),
    productOfDims(x.dims.slice(axis)),
  ];
  return [{ dataType: x.dataType, dims }];
};

/** Axes in the order of perm, reversed without it. */
export const transpose: ShapeRule = (c) => {
  const x = c.input(0);
  const perm = c.ints("perm") ?? x.dims.map((_, i) => x.dims.length - 1 - i);
  if (perm.length !== x.dims.length || new Set(perm).size !== perm.length)
    c.fail(`perm [${perm.join(", ")}] does not permute ${textOfDims(x.dims)}`);
  const dims = perm.map((axis) => x.dims[c.axis(axis, x.dims.length)]);
  return [keep(x, dims, x.dims.length < 2 ? x.contents : undefined)];
};

/** Inputs one after another along an axis. */
export const concat: ShapeRule = (c) => {
  const inputs = c.inputs.map((_, i) => c.input(i));
  const [first] = inputs;
  const axis = c.axis(c.intOf("axis"), first.dims.length);
  let dims = [...first.dims];
  for (const input of inputs.slice(1)) {
    if (input.dataType !== first.dataType)
      c.fail(`inputs are ${first.dataType} and ${input.dataType}`);
    if (input.dims.length !== dims.length) c.fail("inputs differ in rank");
    dims = dims.map((dim, i) =>
      i === axis
        ? addDims(dim, input.dims[i])
        : c.same(dim, input.dims[i], `dimension ${i} differs`),
    );
  }
  const contents = inputs.every((input) => input.contents !== undefined)
    ? inputs.flatMap((input) => input.contents ?? [])
    : undefined;
  return [keep(first, dims, dims.length === 1 ? contents : undefined)];
};

/** Pieces along an axis: sizes from the second input, else equal ones. */
export const split: ShapeRule = (c) => {
  const x = c.input(0);
  const axis = c.axis(c.intOf("axis"), x.dims.length);
  const count = c.node.outputs.length;
  const sizes =
    c.inputs[1] === undefined ? undefined : shapeFromContents(c, c.input(1));
  if (sizes !== undefined && sizes.length !== count)
    c.fail(`${sizes.length} sizes for ${count} outputs`);
  if (sizes !== undefined)
    c.same(
      productSum(sizes),
      x.dims[axis],
      "sizes do not add up to the dimension",
    );
  // Without sizes the last piece is the smaller one (num_outputs, opset 18).
  const piece = ceilDivideDims(x.dims[axis], count);
  let start = 0;
  return Array.from({ length: count }, (_, i) => {
    const rest = subtractDims(x.dims[axis], multiplyDims(piece, count - 1));
    const size = sizes?.[i] ?? (i === count - 1 ? rest : piece);
    const dims = x.dims.map((dim, d) => (d === axis ? size : dim));
    const from = start;
    start += Number(size);
    const contents =
      dims.length === 1 ? x.contents?.slice(from, start) : undefined;
    return keep(x, dims, contents);
  });
};

const productSum = (sizes: readonly Dimension[]): Dimension =>
  sizes.reduce(addDims, 0);

/** starts, ends, axes and steps as inputs; a symbol as end can only be the dimension itself or less. */
export const slice: ShapeRule = (c) => {
  const x = c.input(0);
  const [starts, ends] = [c.input(1).contents, c.input(2).contents];
  const count = Number(c.input(1).dims[0]);
  const axes = c.numbers(3) ?? Array.from({ length: count }, (_, i) => i);
  const steps = c.inputs[4] === undefined ? undefined : c.numbers(4);
  const dims = [...x.dims];
  let contents = x.contents;
  axes.forEach((given, i) => {
    const axis = c.axis(given, x.dims.length);
    const step = steps?.[i] ?? 1;
    if (step === 0) c.fail("a step of 0");
    const [start, end] = [starts?.[i], ends?.[i]];
    const size = x.dims[axis];
    dims[axis] =
      sliceLength(size, start, end, step) ?? c.unknown(`axis${axis}`);
    contents =
      contents !== undefined &&
      typeof start === "number" &&
      typeof end === "number" &&
      x.dims.length === 1
        ? sliceOf(contents, start, end, step)
        : undefined;
  });
  return [keep(x, dims, contents)];
};

const clamp = (value: number, low: number, high: number) =>
  Math.min(Math.max(value, low), high);

function sliceBounds(
  size: number,
  start: number,
  end: number,
  step: number,
): [number, number] {
  const from = start < 0 ? start + size : start;
  const to = end < 0 ? end + size : end;
  return step > 0
    ? [clamp(from, 0, size), clamp(to, 0, size)]
    : [clamp(from, 0, size - 1), clamp(to, -1, size - 1)];
}

function sliceLength(
  size: Dimension,
  start: Dimension | undefined,
  end: Dimension | undefined,
  step: number,
): Dimension | undefined {
  if (start === undefined || end === undefined) return undefined;
  if (
    typeof size === "number" &&
    typeof start === "number" &&
    typeof end === "number"
  ) {
    const [from, to] = sliceBounds(size, start, end, step);
    return Math.max(0, Math.ceil((to - from) / step));
  }
  if (step < 0) {
    // The whole axis backwards.
    const whole = start === -1 && typeof end === "number" && end < -1e9;
    return whole && step === -1 ? size : undefined;
  }
  // Symbolic: an end beyond any tensor, or the dimension itself, means "to the end".
  const toEnd = end === size || (typeof end === "number" && end > 1e9);
  const to = toEnd
    ? size
    : typeof end === "number" && end < 0
      ? addDims(size, end)
      : end;
  const from =
    typeof start === "number" && start < 0 ? addDims(size, start) : start;
  // A number against an unknown size: taken to lie inside.
  return ceilDivideDims(subtractDims(to, from), step);
}

function sliceOf(
  list: readonly Dimension[],
  start: number,
  end: number,
  step: number,
): Dimension[] {
  const [from, to] = sliceBounds(list.length, start, end, step);
  const result: Dimension[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step)
    result.push(list[i]);
  return result;
}

/** The dimensions before the axis, those of the indices, those after it. */
export const gather: ShapeRule = (c) => {
  const [x, indices] = [c.input(0), c.input(1)];
  const axis = c.axis(c.intOf("axis"), x.dims.length);
  const dims = [
    ...x.dims.slice(0, axis),
    ...indices.dims,
    ...x.dims.slice(axis + 1),
  ];
  let contents: Dimension[] | undefined;
  if (
    x.contents !== undefined &&
    indices.contents !== undefined &&
    x.dims.length === 1
  ) {
    const list = x.contents;
    contents = indices.contents.map((index) => {
      const at = Number(index);
      return (
        list[at < 0 ? at + list.length : at] ??
        c.fail(`index ${index} is outside ${list.length} elements`)
      );
    });
  }
  return [keep(x, dims, contents)];
};

/** y has the shape of the indices. */
export const gatherElements: ShapeRule = (c) => [
  { dataType: c.input(0).dataType, dims: c.input(1).dims },
];

/** Indices [.., k] pick slices of what is left after k dimensions. */
export const gatherND: ShapeRule = (c) => {
  const [x, indices] = [c.input(0), c.input(1)];
  const last = indices.dims[indices.dims.length - 1];
  const depth =
    typeof last === "number"
      ? last
      : c.fail("the last dimension of the indices is not known");
  const dims = [
    ...indices.dims.slice(0, -1),
    ...x.dims.slice(c.intOf("batch_dims") + depth),
  ];
  return [{ dataType: x.dataType, dims }];
};

/** Both shapes broadcast, the second given as elements. */
export const expand: ShapeRule = (c) => {
  const x = c.input(0);
  return [
    {
      dataType: x.dataType,
      dims: c.broadcast([x.dims, shapeFromContents(c, c.input(1))]),
    },
  ];
};

/** Each dimension times its repeats. */
export const tile: ShapeRule = (c) => {
  const x = c.input(0);
  const repeats = shapeFromContents(c, c.input(1));
  if (repeats.length !== x.dims.length)
    c.fail("one repeat for each dimension is needed");
  return [
    {
      dataType: x.dataType,
      dims: x.dims.map((dim, i) => multiplyDims(dim, repeats[i])),
    },
  ];
};

/** Begins of all axes, then ends, as input; optionally for some axes only. */
export const pad: ShapeRule = (c) => {
  const x = c.input(0);
  const pads = shapeFromContents(c, c.input(1));
  const rank = x.dims.length;
  const axes =
    (c.inputs[3] === undefined ? undefined : c.numbers(3)) ??
    x.dims.map((_, i) => i);
  if (pads.length !== 2 * axes.length)
    c.fail(`${pads.length} pads for ${axes.length} axes`);
  const dims = [...x.dims];
  axes.forEach((given, i) => {
    const axis = c.axis(given, rank);
    dims[axis] = addDims(dims[axis], addDims(pads[i], pads[i + axes.length]));
  });
  return [{ dataType: x.dataType, dims }];
};

/** Removes axes of size 1. */
export const squeeze: ShapeRule = (c) => {
  const x = c.input(0);
  const given = c.inputs[1] === undefined ? undefined : c.numbers(1);
  const axes = given?.map((axis) => c.axis(axis, x.dims.length));
  for (const axis of axes ?? [])
    if (typeof x.dims[axis] === "number" && x.dims[axis] !== 1)
      c.fail(`axis ${axis} has size ${x.dims[axis]}, not 1`);
  const dims = x.dims.filter((dim, i) =>
    axes === undefined ? dim !== 1 : !axes.includes(i),
  );
  return [keep(x, dims, x.contents)];
};

/** Puts in axes of size 1, counted in the result. */
export const unsqueeze: ShapeRule = (c) => {
  const x = c.input(0);
  const given = c.numbers(1) ?? c.fail("axes are missing");
  const rank = x.dims.length + given.length;
  const axes = new Set(given.map((axis) => c.axis(axis, rank)));
  if (axes.size !== given.length) c.fail(`axes [${given.join(", ")}] repeat`);
  const rest = [...x.dims];
  const dims = Array.from({ length: rank }, (_, i) =>
    axes.has(i) ? 1 : (rest.shift() ?? 1),
  );
  return [keep(x, dims, x.contents)];
};

/** [B, C, H, W] → [B, C / b², H·b, W·b], or back. */
export const depthToSpace: ShapeRule = (c) => blocks(c, "apart");
/** [B, C, H, W] → [B, C·b², H / b, W / b]. */
export const spaceToDepth: ShapeRule = (c) => blocks(c, "together");

function blocks(
  c: RuleContext,
  direction: "apart" | "together",
): readonly Known[] {
  const x = c.input(0);
  const size = c.intOf("blocksize");
  const divided = (dim: Dimension, by: number) =>
    divideDimsExactly(dim, by) ?? c.fail(`${dim} does not divide by ${by}`);
  const [batch, channels, height, width] = x.dims;
  const dims =
    direction === "apart"
      ? [
          batch,
          divided(channels, size * size),
          multiplyDims(height, size),
          multiplyDims(width, size),
        ]
      : [
          batch,
          multiplyDims(channels, size * size),
          divided(height, size),
          divided(width, size),
        ];
  return [{ dataType: x.dataType, dims }];
}
