import type { Dimension } from "../graph.js";
import type { RuleContext, ShapeRule } from "./rule.js";

function product(
  c: RuleContext,
  a: readonly Dimension[],
  b: readonly Dimension[],
): Dimension[] {
  if (a.length === 0 || b.length === 0) c.fail("a scalar is no matrix");
  const left = a.length === 1 ? [1, a[0]] : [...a];
  const right = b.length === 1 ? [b[0], 1] : [...b];
  c.same(
    left[left.length - 1],
    right[right.length - 2],
    "inner dimensions differ",
  );
  const dims = c.broadcast([left.slice(0, -2), right.slice(0, -2)]);
  if (a.length > 1) dims.push(left[left.length - 2]);
  if (b.length > 1) dims.push(right[right.length - 1]);
  return dims;
}

/** y = a · b as numpy.matmul. */
export const matMul: ShapeRule = (c) => [
  {
    dataType: c.input(0).dataType,
    dims: product(c, c.input(0).dims, c.input(1).dims),
  },
];

/** transBatch moves the first dimension in front of the last, then trans swaps the last two. */
function arranged(
  dims: readonly Dimension[],
  transpose: number | undefined,
  transposeBatch: number | undefined,
): Dimension[] {
  const result = [...dims];
  if (transposeBatch === 1 && result.length > 1)
    result.splice(-1, 0, ...result.splice(0, 1));
  if (transpose === 1 && result.length > 1)
    result.push(...result.splice(-2).reverse());
  return result;
}

/** y = α · op(a) · op(b). Source: microsoft/onnxruntime docs/ContribOperators.md, FusedMatMul. */
export const fusedMatMul: ShapeRule = (c) => [
  {
    dataType: c.input(0).dataType,
    dims: product(
      c,
      arranged(c.input(0).dims, c.int("transA"), c.int("transBatchA")),
      arranged(c.input(1).dims, c.int("transB"), c.int("transBatchB")),
    ),
  },
];

/** y = α · op(a) · op(b) + β · c. */
export const gemm: ShapeRule = (c) => {
  const [a, b] = [c.input(0), c.input(1)];
  if (a.dims.length !== 2 || b.dims.length !== 2)
    c.fail("both factors must have two dimensions");
  const [rows, inner] = c.int("transA") === 1 ? [a.dims[1], a.dims[0]] : a.dims;
  const [innerB, columns] =
    c.int("transB") === 1 ? [b.dims[1], b.dims[0]] : b.dims;
  c.same(inner, innerB, "inner dimensions differ");
  const dims = [rows, columns];
  const bias = c.inputs[2];
  if (bias !== undefined) c.broadcast([dims, bias.dims]);
  return [{ dataType: a.dataType, dims }];
};
