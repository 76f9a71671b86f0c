import { assert } from "#core/errors";
import type { GraphBuilder } from "#onnx/builder";
import { float, int, ints } from "#onnx/builder";
import type {
  Attribute,
  DataType,
  Dimension,
  Tensor,
  ValueInfo,
} from "#onnx/graph";
import { addDims } from "#onnx/dimensions";
import { broadcastDims, isSameDims } from "./dimensions.js";

type Operand = ValueInfo | number;

/**
 * Writes nodes whose values carry their shapes: the language in which gradient rules are written.
 *
 * Every method adds ONNX nodes of the standard operators and returns the value they make. A number stands
 * for a float32 scalar. Shapes may hold symbolic dimensions; where a size is needed that only the running
 * graph knows, it is read there.
 */
export class GradientBuilder {
  readonly graph: GraphBuilder;
  /** Of the standard operators; reductions take their axes as attribute before 18 and as input since. */
  readonly opset: number;
  readonly #prefix: string;
  readonly #values = new Map<string, ValueInfo>();

  /** @param prefix  of the names it makes, so that builders one after another do not meet */
  constructor(graph: GraphBuilder, opset: number, prefix: string) {
    this.graph = graph;
    this.opset = opset;
    this.#prefix = prefix;
  }

  /** Every value made so far by name. */
  get values(): ReadonlyMap<string, ValueInfo> {
    return this.#values;
  }

  /** Adds any node with one output. An `undefined` input is left out. */
  emit(
    opType: string,
    inputs: readonly (Operand | undefined)[],
    result: {
      readonly dims: readonly Dimension[];
      readonly dataType?: DataType;
    },
    options: {
      readonly attributes?: Readonly<Record<string, Attribute>>;
      readonly domain?: string;
    } = {},
  ): ValueInfo {
    return this.emitMany(opType, inputs, [result], options)[0];
  }

  /** Adds any node with several outputs. */
  emitMany(
    opType: string,
    inputs: readonly (Operand | undefined)[],
    results: readonly {
      readonly dims: readonly Dimension[];
      readonly dataType?: DataType;
    }[],
    options: {
      readonly attributes?: Readonly<Record<string, Attribute>>;
      readonly domain?: string;
    } = {},
  ): ValueInfo[] {
    const names = this.graph.node(
      opType,
      inputs.map((input) =>
        input === undefined ? "" : this.#value(input).name,
      ),
      {
        outputs: results.length,
        name: `${this.#prefix}/${opType}`,
        ...options,
      },
    );
    const made = results.map(({ dims, dataType = "float32" }, i) => ({
      name: names[i],
      dataType,
      dims,
    }));
    for (const value of made) this.#values.set(value.name, value);
    return made;
  }

  /** A float32 scalar or any other constant. */
  constant(value: number | Tensor): ValueInfo {
    const name = this.graph.constant(value);
    const made: ValueInfo =
      typeof value === "number"
        ? { name, dataType: "float32", dims: [] }
        : { name, dataType: value.dataType, dims: value.dims };
    this.#values.set(name, made);
    return made;
  }

  /** An int64 list [n], such as axes. */
  ints(values: readonly number[]): ValueInfo {
    return {
      name: this.graph.ints(values),
      dataType: "int64",
      dims: [values.length],
    };
  }

  add(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Add", a, b);
  }
  sub(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Sub", a, b);
  }
  mul(a: Operand, b: Operand): ValueInfo {
    if (b === 1 && typeof a !== "number") return a;
    return this.#binary("Mul", a, b);
  }
  div(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Div", a, b);
  }
  pow(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Pow", a, b);
  }
  max(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Max", a, b);
  }

  neg(a: ValueInfo): ValueInfo {
    return this.#unary("Neg", a);
  }
  sqrt(a: ValueInfo): ValueInfo {
    return this.#unary("Sqrt", a);
  }
  reciprocal(a: ValueInfo): ValueInfo {
    return this.#unary("Reciprocal", a);
  }
  exp(a: ValueInfo): ValueInfo {
    return this.#unary("Exp", a);
  }
  log(a: ValueInfo): ValueInfo {
    return this.#unary("Log", a);
  }
  sign(a: ValueInfo): ValueInfo {
    return this.#unary("Sign", a);
  }
  sigmoid(a: ValueInfo): ValueInfo {
    return this.#unary("Sigmoid", a);
  }

  /** Where a is larger than b, as bool: the condition of `where`. */
  isGreater(a: Operand, b: Operand): ValueInfo {
    return this.#binary("Greater", a, b, "bool");
  }

  /** 1 where the comparison holds, else 0, float32. */
  greater(a: Operand, b: Operand): ValueInfo {
    return this.cast(this.#binary("Greater", a, b, "bool"), "float32");
  }
  less(a: Operand, b: Operand): ValueInfo {
    return this.cast(this.#binary("Less", a, b, "bool"), "float32");
  }
  equal(a: Operand, b: Operand): ValueInfo {
    return this.cast(this.#binary("Equal", a, b, "bool"), "float32");
  }

  /** Element for element: `condition ? a : b`, broadcasting; `condition` is bool. */
  where(condition: ValueInfo, a: Operand, b: Operand): ValueInfo {
    const [va, vb] = [this.#value(a), this.#value(b)];
    const dims = broadcastDims(condition.dims, broadcastDims(va.dims, vb.dims));
    return this.emit("Where", [condition, va, vb], { dims });
  }

  cast(a: ValueInfo, dataType: DataType): ValueInfo {
    if (a.dataType === dataType) return a;
    const to = ELEMENT_TYPE[dataType];
    assert(to !== undefined, `a cast to ${dataType} is not used in gradients`);
    return this.emit(
      "Cast",
      [a],
      { dims: a.dims, dataType },
      { attributes: { to: int(to) } },
    );
  }

  /** Sums over axes; all of them where none are given. */
  sum(
    a: ValueInfo,
    axes: readonly number[],
    keepDims: "keep" | "drop" = "drop",
  ): ValueInfo {
    return this.#reduce("ReduceSum", a, axes, keepDims);
  }
  mean(
    a: ValueInfo,
    axes: readonly number[],
    keepDims: "keep" | "drop" = "drop",
  ): ValueInfo {
    return this.#reduce("ReduceMean", a, axes, keepDims);
  }
  sumSquare(
    a: ValueInfo,
    axes: readonly number[],
    keepDims: "keep" | "drop" = "drop",
  ): ValueInfo {
    return this.#reduce("ReduceSumSquare", a, axes, keepDims);
  }

  /** Undoes a broadcast: sums over the axes along which `dims` was stretched to a's shape. */
  sumTo(a: ValueInfo, dims: readonly Dimension[]): ValueInfo {
    if (isSameDims(a.dims, dims)) return a;
    const added = a.dims.length - dims.length;
    const axes = a.dims.flatMap((dim, axis) =>
      axis < added || (dims[axis - added] === 1 && dim !== 1) ? [axis] : [],
    );
    const summed = axes.length === 0 ? a : this.#sumInTwo(a, axes);
    return this.reshape(summed, dims);
  }

  /** Undoes a reduction: brings a value without (or with size 1 at) `axes` back to rank, size 1 there. */
  restoreAxes(a: ValueInfo, rank: number, axes: readonly number[]): ValueInfo {
    if (a.dims.length === rank) return a;
    return this.unsqueeze(a, axes);
  }

  unsqueeze(a: ValueInfo, axes: readonly number[]): ValueInfo {
    const rank = a.dims.length + axes.length;
    const rest = [...a.dims];
    const dims = Array.from({ length: rank }, (_, axis) =>
      axes.includes(axis) ? 1 : (rest.shift() ?? 1),
    );
    return this.emit("Unsqueeze", [a, this.ints(axes)], {
      dims,
      dataType: a.dataType,
    });
  }

  /** The shape of a value as int64 [rank]: a constant where it is known. */
  shapeOf(a: ValueInfo): ValueInfo {
    const known = a.dims.filter((dim) => typeof dim === "number");
    if (known.length === a.dims.length) return this.ints(known);
    return this.emit("Shape", [a], {
      dims: [a.dims.length],
      dataType: "int64",
    });
  }

  /** Same elements, other shape. At most one dimension of `dims` may be symbolic, unless `like` has them. */
  reshape(
    a: ValueInfo,
    dims: readonly Dimension[],
    like?: ValueInfo,
  ): ValueInfo {
    if (isSameDims(a.dims, dims)) return a;
    const symbolic = dims.filter((dim) => typeof dim === "string").length;
    const shape =
      symbolic <= 1
        ? this.ints(dims.map((dim) => (typeof dim === "string" ? -1 : dim)))
        : this.#dynamicShape(dims, like);
    return this.emit("Reshape", [a, shape], { dims, dataType: a.dataType });
  }

  /** Gives `a` the shape of `like`, which has as many elements. */
  reshapeLike(a: ValueInfo, like: ValueInfo): ValueInfo {
    return this.reshape(a, like.dims, like);
  }

  /** Stretches `a` to the shape of `like`. */
  expandLike(a: ValueInfo, like: ValueInfo): ValueInfo {
    if (isSameDims(a.dims, like.dims)) return a;
    return this.emit("Expand", [a, this.shapeOf(like)], {
      dims: like.dims,
      dataType: a.dataType,
    });
  }

  /** Number of elements along axes: a number where it is known, else a float32 scalar of the running graph. */
  count(a: ValueInfo, axes: readonly number[]): Operand {
    let known = 1;
    const symbolic: number[] = [];
    for (const axis of axes) {
      const dim = a.dims[axis];
      if (typeof dim === "number") known *= dim;
      else symbolic.push(axis);
    }
    if (symbolic.length === 0) return known;
    const shape = this.emit("Shape", [a], {
      dims: [a.dims.length],
      dataType: "int64",
    });
    const sizes = this.emit("Gather", [shape, this.ints(symbolic)], {
      dims: [symbolic.length],
      dataType: "int64",
    });
    const product = this.#reduce("ReduceProd", sizes, [0], "drop");
    return this.mul(this.cast(product, "float32"), known);
  }

  transpose(a: ValueInfo, perm: readonly number[]): ValueInfo {
    if (perm.every((axis, i) => axis === i)) return a;
    return this.emit(
      "Transpose",
      [a],
      { dims: perm.map((axis) => a.dims[axis]), dataType: a.dataType },
      { attributes: { perm: ints(...perm) } },
    );
  }

  /** The last two axes swapped. */
  matrixTranspose(a: ValueInfo): ValueInfo {
    const rank = a.dims.length;
    const perm = a.dims.map((_, axis) => axis);
    [perm[rank - 2], perm[rank - 1]] = [rank - 1, rank - 2];
    return this.transpose(a, perm);
  }

  /** op(a) · op(b) over the last two axes, the others broadcast; transposing inside the product costs nothing. */
  matMul(
    a: ValueInfo,
    b: ValueInfo,
    transposed: "none" | "left" | "right" | "both" = "none",
    alpha = 1,
  ): ValueInfo {
    const isLeft = transposed === "left" || transposed === "both";
    const isRight = transposed === "right" || transposed === "both";
    const left = isLeft ? swapLast(a.dims) : a.dims;
    const right = isRight ? swapLast(b.dims) : b.dims;
    const batch = broadcastDims(left.slice(0, -2), right.slice(0, -2));
    const dims = [...batch, left[left.length - 2], right[right.length - 1]];
    if (transposed === "none" && alpha === 1)
      return this.emit("MatMul", [a, b], { dims });
    return this.emit(
      "FusedMatMul",
      [a, b],
      { dims },
      {
        domain: "com.microsoft",
        attributes: {
          transA: int(isLeft ? 1 : 0),
          transB: int(isRight ? 1 : 0),
          alpha: float(alpha),
        },
      },
    );
  }

  concat(parts: readonly ValueInfo[], axis: number): ValueInfo {
    if (parts.length === 1) return parts[0];
    const size = parts.map((part) => part.dims[axis]).reduce(addDims);
    const dims = parts[0].dims.map((dim, i) => (i === axis ? size : dim));
    return this.emit(
      "Concat",
      parts,
      { dims, dataType: parts[0].dataType },
      { attributes: { axis: int(axis) } },
    );
  }

  /** Elements [starts, ends) by step along `axes`; bounds and sizes are known numbers. */
  slice(
    a: ValueInfo,
    axes: readonly number[],
    starts: readonly number[],
    {
      ends,
      steps = axes.map(() => 1),
    }: { readonly ends: readonly number[]; readonly steps?: readonly number[] },
  ): ValueInfo {
    const dims = [...a.dims];
    axes.forEach(
      (axis, i) => (dims[axis] = Math.ceil((ends[i] - starts[i]) / steps[i])),
    );
    return this.emit(
      "Slice",
      [
        a,
        this.ints(starts),
        this.ints(ends),
        this.ints(axes),
        this.ints(steps),
      ],
      { dims, dataType: a.dataType },
    );
  }

  /** Zeros around `a`: `begin` and `end` one number an axis (negative: cut off). */
  pad(
    a: ValueInfo,
    begin: readonly number[],
    end: readonly number[],
  ): ValueInfo {
    if (begin.every((n) => n === 0) && end.every((n) => n === 0)) return a;
    const dims = a.dims.map((dim, i) => addDims(dim, begin[i] + end[i]));
    return this.emit("Pad", [a, this.ints([...begin, ...end])], {
      dims,
      dataType: a.dataType,
    });
  }

  /** Zeros of the shape of `like`. */
  zerosLike(like: ValueInfo): ValueInfo {
    return this.emit(
      "ConstantOfShape",
      [this.shapeOf(like)],
      { dims: like.dims },
      {
        attributes: {
          value: {
            type: "tensor",
            value: { dataType: "float32", dims: [1], data: Float32Array.of(0) },
          },
        },
      },
    );
  }

  #value(operand: Operand): ValueInfo {
    return typeof operand === "number" ? this.constant(operand) : operand;
  }

  #unary(opType: string, a: ValueInfo): ValueInfo {
    return this.emit(opType, [a], { dims: a.dims });
  }

  #binary(
    opType: string,
    a: Operand,
    b: Operand,
    dataType: DataType = "float32",
  ): ValueInfo {
    const [va, vb] = [this.#value(a), this.#value(b)];
    return this.emit(opType, [va, vb], {
      dims: broadcastDims(va.dims, vb.dims),
      dataType,
    });
  }

  #reduce(
    opType: string,
    a: ValueInfo,
    axes: readonly number[],
    keepDims: "keep" | "drop",
  ): ValueInfo {
    if (axes.length === 0) return a;
    const dims = a.dims.flatMap((dim, axis) =>
      axes.includes(axis) ? (keepDims === "keep" ? [1] : []) : [dim],
    );
    const keepdims = int(keepDims === "keep" ? 1 : 0);
    if (opType === "ReduceSum" || this.opset >= 18)
      return this.emit(
        opType,
        [a, this.ints(axes)],
        { dims, dataType: a.dataType },
        { attributes: { keepdims } },
      );
    return this.emit(
      opType,
      [a],
      { dims, dataType: a.dataType },
      { attributes: { keepdims, axes: ints(...axes) } },
    );
  }

  /** Trailing axes first: onnxruntime reduces contiguous memory several times faster than scattered axes. */
  #sumInTwo(a: ValueInfo, axes: readonly number[]): ValueInfo {
    const rank = a.dims.length;
    const trailing = axes.filter((axis) => {
      for (let later = axis; later < rank; later++)
        if (!axes.includes(later)) return false;
      return true;
    });
    const leading = axes.filter((axis) => !trailing.includes(axis));
    if (trailing.length === 0 || leading.length === 0)
      return this.sum(a, axes, "keep");
    return this.sum(this.sum(a, trailing, "keep"), leading, "keep");
  }

  #dynamicShape(
    dims: readonly Dimension[],
    like: ValueInfo | undefined,
  ): ValueInfo {
    assert(
      like !== undefined && isSameDims(like.dims, dims),
      `shape [${dims.join(", ")}] is known when the graph runs`,
    );
    return this.shapeOf(like);
  }
}

/** Numbers of ONNX element types (onnx.proto, TensorProto.DataType), those that gradients cast to. */
const ELEMENT_TYPE: Readonly<Partial<Record<DataType, number>>> = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float64: 11,
};

function swapLast(dims: readonly Dimension[]): readonly Dimension[] {
  return [...dims.slice(0, -2), dims[dims.length - 1], dims[dims.length - 2]];
}
