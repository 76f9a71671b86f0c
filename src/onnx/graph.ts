/** Element types of ONNX tensors that this project reads and writes (bfloat16 and the 8-bit floats are refused). */
export type DataType =
  | "float32"
  | "float64"
  | "float16"
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "int32"
  | "int64"
  | "uint32"
  | "uint64"
  | "bool";

/** The typed array that holds each element type; float16 as its bits, bool as 0 or 1. */
export interface ArrayOf {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  uint8: Uint8Array;
  int8: Int8Array;
  uint16: Uint16Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
}

/** A constant: row-major, contiguous. `dims` is empty for a scalar. */
export interface Tensor<T extends DataType = DataType> {
  readonly dataType: T;
  readonly dims: readonly number[];
  readonly data: ArrayOf[T];
}

/** A dimension is a number, or the name of one that is only known when the graph runs (`batch`). */
export type Dimension = number | string;

/** A graph input, output or intermediate value with what is known of it. */
export interface ValueInfo {
  readonly name: string;
  readonly dataType: DataType;
  readonly dims: readonly Dimension[];
}

/** An attribute, tagged as ONNX tags it: 1 as `int` and 1 as `float` are different attributes. */
export type Attribute =
  | { readonly type: "int"; readonly value: number }
  | { readonly type: "ints"; readonly value: readonly number[] }
  | { readonly type: "float"; readonly value: number }
  | { readonly type: "floats"; readonly value: readonly number[] }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "tensor"; readonly value: Tensor };

/** One operator of a graph. An empty string in `inputs` or `outputs` is an optional one left out. */
export interface Node {
  readonly name: string;
  readonly opType: string;
  /** `''` for the standard operators, `com.microsoft` for onnxruntime's own. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A graph in topological order: every input of a node is a graph input, an initializer or an earlier output. */
export interface Graph {
  readonly name: string;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly initializers: ReadonlyMap<string, Tensor>;
  readonly nodes: readonly Node[];
}

/** A graph with the operator sets it is written in. */
export interface Model {
  readonly graph: Graph;
  /** Version of the standard operator set, 13 to 17 at least. */
  readonly opset: number;
  readonly irVersion: number;
  readonly metadata: Readonly<Record<string, string>>;
}
