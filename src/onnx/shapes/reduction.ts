import { productOfDims } from "../dimensions.js";
import type { Dimension } from "../graph.js";
import type { Known, RuleContext, ShapeRule } from "./rule.js";

function reduced(
  c: RuleContext,
  dims: readonly Dimension[],
  axes: ReadonlySet<number>,
): Dimension[] {
  if (c.int("keepdims") !== 0)
    return dims.map((dim, i) => (axes.has(i) ? 1 : dim));
  return dims.filter((_, i) => !axes.has(i));
}

/** Axes from the attribute or the second input, all where there are none. */
export const reduce: ShapeRule = (c) => {
  const x = c.input(0);
  const given = c.ints("axes") ?? c.numbers(1) ?? [];
  if (given.length === 0 && c.int("noop_with_empty_axes") === 1) return [x];
  const rank = x.dims.length;
  const axes = new Set(
    given.length === 0
      ? x.dims.map((_, i) => i)
      : given.map((axis) => c.axis(axis, rank)),
  );
  const known: Known = { dataType: x.dataType, dims: reduced(c, x.dims, axes) };
  if (c.node.opType === "ReduceProd" && x.contents !== undefined && rank <= 1)
    return [{ ...known, contents: [productOfDims(x.contents)] }];
  return [known];
};

/** int64 positions along one axis. */
export const argument: ShapeRule = (c) => {
  const { dims } = c.input(0);
  const axis = c.axis(c.intOf("axis"), dims.length);
  return [{ dataType: "int64", dims: reduced(c, dims, new Set([axis])) }];
};

/** The k largest or smallest along an axis, and their int64 positions. */
export const topK: ShapeRule = (c) => {
  const x = c.input(0);
  const axis = c.axis(c.intOf("axis"), x.dims.length);
  const k = c.input(1).contents?.[0] ?? c.unknown("k");
  const size = x.dims[axis];
  if (typeof k === "number" && typeof size === "number" && k > size)
    c.fail(`k of ${k} exceeds the dimension of ${size}`);
  const dims = x.dims.map((dim, i) => (i === axis ? k : dim));
  return [
    { dataType: x.dataType, dims },
    { dataType: "int64", dims },
  ];
};
