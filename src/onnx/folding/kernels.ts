import type { DataType, Node, Tensor } from "../graph.js";
import type { OperatorName } from "../operators.js";
import { dataTypeFromNumber, dataTypes } from "../tensor-data.js";

/** Evaluates one operator on constants; undefined where this use of it is not foldable. */
type Kernel = (inputs: readonly Tensor[], node: Node) => Tensor | undefined;

/** A tensor from plain numbers, rounded to its type. */
export function tensorFromNumbers(
  dataType: DataType,
  dims: readonly number[],
  values: readonly number[],
): Tensor | undefined {
  const array = dataTypes[dataType].create(
    new ArrayBuffer(values.length * dataTypes[dataType].bytes),
  );
  if (array instanceof BigInt64Array || array instanceof BigUint64Array) {
    if (!values.every(Number.isSafeInteger)) return undefined;
    values.forEach((value, i) => (array[i] = BigInt(value)));
  } else if (dataType === "float16") return undefined;
  else values.forEach((value, i) => (array[i] = value));
  return { dataType, dims, data: array };
}

function numbersOf(tensor: Tensor): number[] | undefined {
  return tensor.dataType === "float16"
    ? undefined
    : Array.from(tensor.data, Number);
}

const unary =
  (f: (x: number) => number): Kernel =>
  ([x]) => {
    const values = numbersOf(x);
    return values && tensorFromNumbers(x.dataType, x.dims, values.map(f));
  };

function binary(f: (a: number, b: number) => number): Kernel {
  return ([a, b]) => {
    const [left, right] = [numbersOf(a), numbersOf(b)];
    const dims = broadcast(a.dims, b.dims);
    if (!left || !right || !dims) return undefined;
    const [fromA, fromB] = [positions(a.dims, dims), positions(b.dims, dims)];
    const values = fromA.map((at, i) => f(left[at], right[fromB[i]]));
    return tensorFromNumbers(a.dataType, dims, values);
  };
}

function broadcast(
  a: readonly number[],
  b: readonly number[],
): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const dims: number[] = [];
  for (let i = 0; i < rank; i++) {
    const [left, right] = [
      a[i - rank + a.length] ?? 1,
      b[i - rank + b.length] ?? 1,
    ];
    if (left !== right && left !== 1 && right !== 1) return undefined;
    dims.push(left === 1 ? right : left);
  }
  return dims;
}

/** For each element of the broadcast shape, its element in the narrower one. */
function positions(dims: readonly number[], wide: readonly number[]): number[] {
  const count = wide.reduce((product, dim) => product * dim, 1);
  return Array.from({ length: count }, (_, index) => {
    let rest = index;
    let at = 0;
    let stride = 1;
    for (let i = 0; i < wide.length; i++) {
      const position = rest % wide[wide.length - 1 - i];
      rest = Math.floor(rest / wide[wide.length - 1 - i]);
      const own = dims[dims.length - 1 - i] ?? 1;
      if (own !== 1) at += position * stride;
      stride *= own;
    }
    return at;
  });
}

/** Integer division truncates (ONNX follows C). */
const divide: Kernel = (inputs, node) =>
  binary(
    inputs[0].dataType.startsWith("float")
      ? (a, b) => a / b
      : (a, b) => Math.trunc(a / b),
  )(inputs, node);

const cast: Kernel = ([x], node) => {
  const to = node.attributes["to"];
  const values = numbersOf(x);
  if (to?.type !== "int" || !values) return undefined;
  const dataType = dataTypeFromNumber(to.value, node.name);
  const convert = dataType.startsWith("float")
    ? (value: number) => value
    : dataType === "bool"
      ? (value: number) => Number(value !== 0)
      : Math.trunc;
  return tensorFromNumbers(dataType, x.dims, values.map(convert));
};

/** Same elements under the shape that inference found. */
const reshaped: Kernel = ([x]) => x;

/**
 * Operators that are evaluated on constants in place. Movement of whole tensors is left to onnxruntime, save
 * where only the shape changes; `dims` of those come from shape inference.
 */
export const kernels: Readonly<Partial<Record<OperatorName, Kernel>>> = {
  Abs: unary(Math.abs),
  Ceil: unary(Math.ceil),
  Exp: unary(Math.exp),
  Floor: unary(Math.floor),
  Log: unary(Math.log),
  Neg: unary((x) => -x),
  Reciprocal: unary((x) => 1 / x),
  Sqrt: unary(Math.sqrt),
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: divide,
  Pow: binary(Math.pow),
  Cast: cast,
  Identity: reshaped,
  Reshape: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Flatten: reshaped,
};
