import {
  floatOf,
  type GradientRule,
  intOf,
  oneOutput,
  twoInputs,
} from "./gradient-rule.js";

/** Matrix products. */
export type LinearOp = "MatMul" | "Gemm";

export const linearRules: Readonly<Record<LinearOp, GradientRule>> = {
  // Y = A · B           dA = dY · Bᵀ, dB = Aᵀ · dY, summed back over broadcast batch axes
  MatMul: twoInputs((forward, dy, g) => {
    const { a, b } = forward;
    if (a.dims.length < 2 || b.dims.length < 2)
      forward.unsupported("one side is a vector", "unsqueeze it to a matrix");
    if (b.dims.length === 2 && a.dims.length > 2) {
      // One weight matrix under a batch: its gradient is one product over all rows, not a sum of products.
      const rows = g.reshape(a, ["rows", a.dims[a.dims.length - 1]]);
      const cotangentRows = g.reshape(dy, [
        "rows",
        dy.dims[dy.dims.length - 1],
      ]);
      return [g.matMul(dy, b, "right"), g.matMul(rows, cotangentRows, "left")];
    }
    return [
      g.sumTo(g.matMul(dy, b, "right"), a.dims),
      g.sumTo(g.matMul(a, dy, "left"), b.dims),
    ];
  }),

  // Y = α A' · B' + β C            dA' = α dY · B'ᵀ, dB' = α A'ᵀ · dY, dC = β dY summed back
  Gemm: oneOutput((forward, dy, g) => {
    const [a, b, c] = forward.inputs;
    if (a === undefined || b === undefined) return [];
    const alpha = floatOf(forward, "alpha", 1);
    const isATransposed = intOf(forward, "transA", 0) === 1;
    const isBTransposed = intOf(forward, "transB", 0) === 1;
    const product = (
      left: typeof a,
      right: typeof a,
      transposed: "none" | "left" | "right",
    ) => g.matMul(left, right, transposed, alpha);
    const bAsStored = isBTransposed ? b : g.matrixTranspose(b);
    const da = isATransposed
      ? g.matMul(isBTransposed ? g.matrixTranspose(b) : b, dy, "right", alpha)
      : product(dy, bAsStored, "none");
    const db = isBTransposed
      ? isATransposed
        ? g.matrixTranspose(product(a, dy, "none"))
        : product(dy, a, "left")
      : product(a, dy, isATransposed ? "none" : "left");
    const dc = c
      ? g.mul(g.sumTo(dy, c.dims), floatOf(forward, "beta", 1))
      : undefined;
    return [da, db, dc];
  }),
};
