import {
  addDims,
  floorDivideDims,
  multiplyDims,
  subtractDims,
} from "../dimensions.js";
import type { DataType, Dimension } from "../graph.js";
import { dataTypeFromNumber } from "../tensor-data.js";
import {
  compareElements,
  type Known,
  type RuleContext,
  type ShapeRule,
} from "./rule.js";

/** y has the type and shape of x. */
export const likeInput: ShapeRule = (c) => [
  { dataType: c.input(0).dataType, dims: c.input(0).dims },
];

/** As `likeInput`, the elements too. */
export const identity: ShapeRule = (c) => [c.input(0)];

/** y is bool of the shape of x. */
export const predicate: ShapeRule = (c) => [
  { dataType: "bool", dims: c.input(0).dims },
];

const integers: readonly DataType[] = ["int64", "int32"];

function sameTypes(c: RuleContext): DataType {
  const first = c.input(0).dataType;
  for (const input of c.inputs)
    if (input !== undefined && input.dataType !== first)
      c.fail(`inputs are of types ${first} and ${input.dataType}`);
  return first;
}

type ElementRule = (a: Dimension, b: Dimension) => Dimension | undefined;

const bothNumbers =
  (f: (a: number, b: number) => number): ElementRule =>
  (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? f(a, b)
      : a === b
        ? a
        : undefined;

/** Elements of y where both inputs' elements are known: shape arithmetic. */
function combineContents(
  [a, b]: readonly Known[],
  dims: readonly Dimension[],
  rule: ElementRule | undefined,
): readonly Dimension[] | undefined {
  if (
    rule === undefined ||
    a.contents === undefined ||
    b.contents === undefined
  )
    return undefined;
  // Only scalars against lists: shape arithmetic has no other form.
  const count = Math.max(a.contents.length, b.contents.length);
  if (dims.length > 1) return undefined;
  if (
    ![1, count].includes(a.contents.length) ||
    ![1, count].includes(b.contents.length)
  )
    return undefined;
  const result: Dimension[] = [];
  for (let i = 0; i < count; i++) {
    const element = rule(
      a.contents[a.contents.length === 1 ? 0 : i],
      b.contents[b.contents.length === 1 ? 0 : i],
    );
    if (element === undefined) return undefined;
    result.push(element);
  }
  return result;
}

const withContents = (
  known: Known,
  contents: readonly Dimension[] | undefined,
): Known => (contents === undefined ? known : { ...known, contents });

/** y of the inputs' common type, shapes broadcast. */
export function broadcasting(element?: ElementRule): ShapeRule {
  return (c) => {
    const dataType = sameTypes(c);
    const inputs = c.inputs.map((_, i) => c.input(i));
    const dims = c.broadcast(inputs.map((input) => input.dims));
    const contents =
      inputs.length === 2 && integers.includes(dataType)
        ? combineContents(inputs, dims, element)
        : undefined;
    return [withContents({ dataType, dims }, contents)];
  };
}

/** Element rules for shape arithmetic. Division of dimensions is of non-negative numbers: truncation is floor. */
export const elementRules = {
  add: addDims,
  subtract: subtractDims,
  multiply: multiplyDims,
  divide: (a: Dimension, b: Dimension) =>
    b === 0 ? undefined : floorDivideDims(a, b),
  modulo: bothNumbers((a, b) => ((a % b) + b) % b),
  min: bothNumbers(Math.min),
  max: bothNumbers(Math.max),
} satisfies Record<string, ElementRule>;

/** y is bool, shapes broadcast. */
export function comparison(element?: ElementRule): ShapeRule {
  return (c) => {
    sameTypes(c);
    const inputs = [c.input(0), c.input(1)];
    const dims = c.broadcast(inputs.map((input) => input.dims));
    return [
      withContents(
        { dataType: "bool", dims },
        combineContents(inputs, dims, element),
      ),
    ];
  };
}

/** 1 where both elements are equal, 0 where they cannot be. */
export const equalElements: ElementRule = (a, b) => {
  const equal = compareElements(a, b);
  return equal === undefined ? undefined : Number(equal);
};

/** y of the type of the base, whatever the exponent's. */
export const power: ShapeRule = (c) => [
  {
    dataType: c.input(0).dataType,
    dims: c.broadcast([c.input(0).dims, c.input(1).dims]),
  },
];

/** y = condition ? a : b, all broadcast. */
export const where: ShapeRule = (c) => {
  const [condition, a, b] = [c.input(0), c.input(1), c.input(2)];
  if (condition.dataType !== "bool")
    c.fail(`condition is ${condition.dataType}, not bool`);
  if (a.dataType !== b.dataType)
    c.fail(`branches are ${a.dataType} and ${b.dataType}`);
  const dims = c.broadcast([condition.dims, a.dims, b.dims]);
  let contents: Dimension[] | undefined;
  if (condition.contents && a.contents && b.contents && dims.length <= 1) {
    const at = (list: readonly Dimension[], i: number) =>
      list[list.length === 1 ? 0 : i];
    const count = dims.length === 0 ? 1 : Number(dims[0]);
    contents = Array.from({ length: count }, (_, i) =>
      at(condition.contents ?? [], i) === 1
        ? at(a.contents ?? [], i)
        : at(b.contents ?? [], i),
    );
  }
  return [withContents({ dataType: a.dataType, dims }, contents)];
};

/** y of the type given by number; integer elements live on between integer types. */
export const cast: ShapeRule = (c) => {
  const dataType = dataTypeFromNumber(c.intOf("to"), c.node.name);
  const { dims, contents } = c.input(0);
  return [
    withContents(
      { dataType, dims },
      integers.includes(dataType) ? contents : undefined,
    ),
  ];
};

/** y of the second input's type. */
export const castLike: ShapeRule = (c) => [
  { dataType: c.input(1).dataType, dims: c.input(0).dims },
];

/** y like x, and a mask of bools. */
export const dropout: ShapeRule = (c) => [
  c.input(0),
  { dataType: "bool", dims: c.input(0).dims },
];
