import { ceilDivideDims, productOfDims, subtractDims } from "../dimensions.js";
import type { Dimension, Tensor } from "../graph.js";
import { dataTypeFromNumber } from "../tensor-data.js";
import type { Known, ShapeRule } from "./rule.js";

/** Shape tensors are short; longer integer constants are data and not looked into. */
const MOST_CONTENTS = 256;

/** A constant's facts, with its elements where it is a short list of integers. */
export function knownFromTensor(tensor: Tensor): Known {
  const { dataType, dims, data } = tensor;
  const integer =
    dataType === "int64" || dataType === "int32" || dataType === "bool";
  if (!integer || data.length > MOST_CONTENTS) return { dataType, dims };
  return { dataType, dims, contents: Array.from(data, Number) };
}

/** The tensor a Constant node holds, whichever attribute it is in. */
export const constant: ShapeRule = (c) => {
  const tensor = constantTensor(c.node.attributes);
  return [knownFromTensor(tensor ?? c.fail("holds no value"))];
};

/** The tensor in a Constant node's attributes. */
export function constantTensor(
  attributes: Parameters<ShapeRule>[0]["node"]["attributes"],
): Tensor | undefined {
  for (const [name, attribute] of Object.entries(attributes)) {
    if (name === "value" && attribute.type === "tensor") return attribute.value;
    if (attribute.type === "float")
      return {
        dataType: "float32",
        dims: [],
        data: Float32Array.of(attribute.value),
      };
    if (attribute.type === "floats")
      return {
        dataType: "float32",
        dims: [attribute.value.length],
        data: Float32Array.from(attribute.value),
      };
    if (attribute.type === "int")
      return {
        dataType: "int64",
        dims: [],
        data: BigInt64Array.of(BigInt(attribute.value)),
      };
    if (attribute.type === "ints")
      return {
        dataType: "int64",
        dims: [attribute.value.length],
        data: BigInt64Array.from(attribute.value, BigInt),
      };
  }
  return undefined;
}

/** The dimensions of x, or a part of them, as int64. */
export const shape: ShapeRule = (c) => {
  const { dims } = c.input(0);
  const contents = dims.slice(c.intOf("start"), c.int("end"));
  return [{ dataType: "int64", dims: [contents.length], contents }];
};

/** The number of elements of x, as an int64 scalar. */
export const size: ShapeRule = (c) => [
  { dataType: "int64", dims: [], contents: [productOfDims(c.input(0).dims)] },
];

/** A tensor of that shape filled with one value, 0 as float32 by default. */
export const constantOfShape: ShapeRule = (c) => {
  const shape = c.input(0);
  const value = c.tensor("value");
  const dataType = value?.dataType ?? "float32";
  const dims =
    shape.contents ??
    Array.from({ length: Number(shape.dims[0] ?? 0) }, (_, i) =>
      c.unknown(String(i)),
    );
  const count = productOfDims(dims);
  if (
    dataType !== "int64" ||
    value === undefined ||
    typeof count !== "number" ||
    count > MOST_CONTENTS
  )
    return [{ dataType, dims }];
  return [
    {
      dataType,
      dims,
      contents: new Array<Dimension>(count).fill(Number(value.data[0])),
    },
  ];
};

/** start, start + delta … below limit. */
export const range: ShapeRule = (c) => {
  const { dataType } = c.input(0);
  const [start, limit, delta] = [0, 1, 2].map((i) => c.input(i).contents?.[0]);
  if (start === undefined || limit === undefined || delta === undefined)
    return [{ dataType, dims: [c.unknown("count")] }];
  const count = ceilDivideDims(subtractDims(limit, start), delta);
  if (typeof count !== "number" || count > MOST_CONTENTS)
    return [{ dataType, dims: [count] }];
  const contents = Array.from(
    { length: Math.max(0, count) },
    (_, i) => Number(start) + i * Number(delta),
  );
  return [{ dataType, dims: [contents.length], contents }];
};

/** The indices' shape with the depth put in at the axis; type of the values [off, on]. */
export const oneHot: ShapeRule = (c) => {
  const { dims } = c.input(0);
  const axis = c.axis(c.intOf("axis"), dims.length + 1);
  const depth = c.input(1).contents?.[0] ?? c.unknown("depth");
  return [
    {
      dataType: c.input(2).dataType,
      dims: [...dims.slice(0, axis), depth, ...dims.slice(axis)],
    },
  ];
};

/** y of the shape of x, of the type given by number or that of x. */
export const eyeLike: ShapeRule = (c) => {
  const x = c.input(0);
  const number = c.int("dtype");
  const dataType =
    number === undefined ? x.dataType : dataTypeFromNumber(number, c.node.name);
  return [{ dataType, dims: x.dims }];
};
