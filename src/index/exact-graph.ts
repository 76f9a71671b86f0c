/**
 * The ONNX graph of an exact search, written by hand: this room may not import the one that writes graphs.
 *
 *     similarities, positions = TopK(queries · rowsᵀ, k)
 *
 * Source: field numbers of onnx/onnx onnx/onnx.proto (ModelProto, GraphProto, NodeProto, ValueInfoProto).
 *
 * @returns the bytes of a ModelProto: queries float32 [Q, D], rows float32 [N, D], k int64 [1] →
 *          similarities float32 [Q, k], positions int64 [Q, k]
 */
export function exactSearchGraph(): Uint8Array {
  const product = node("Gemm", ["queries", "rows"], ["products"], "transB");
  const best = node(
    "TopK",
    ["products", "k"],
    ["similarities", "positions"],
    "largest",
  );
  const graph = [
    ...field(1, product),
    ...field(1, best),
    ...field(2, text("exact search")),
    ...field(11, value("queries", float32, ["Q", "D"])),
    ...field(11, value("rows", float32, ["N", "D"])),
    ...field(11, value("k", int64, ["one"])),
    ...field(12, value("similarities", float32, ["Q", "K"])),
    ...field(12, value("positions", int64, ["Q", "K"])),
  ];
  const opset = number(2, 13);
  return Uint8Array.from([
    ...number(1, 8), // ir_version
    ...field(7, graph),
    ...field(8, opset),
  ]);
}

// TensorProto.DataType
const float32 = 1;
const int64 = 7;
// AttributeProto.AttributeType.INT
const intAttribute = 2;

type Bytes = readonly number[];

function varint(value: number): Bytes {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

function number(tag: number, value: number): Bytes {
  return [...varint(tag << 3), ...varint(value)];
}

function field(tag: number, payload: Bytes): Bytes {
  return [...varint((tag << 3) | 2), ...varint(payload.length), ...payload];
}

function text(value: string): Bytes {
  return [...Buffer.from(value)];
}

/** A node with one attribute, a whole number set to 1. */
function node(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  flag: string,
): Bytes {
  const attribute = [
    ...field(1, text(flag)),
    ...number(3, 1),
    ...number(20, intAttribute),
  ];
  return [
    ...inputs.flatMap((name) => field(1, text(name))),
    ...outputs.flatMap((name) => field(2, text(name))),
    ...field(4, text(opType)),
    ...field(5, attribute),
  ];
}

function value(
  name: string,
  elementType: number,
  dimensions: readonly string[],
): Bytes {
  const shape = dimensions.flatMap((letter) =>
    field(1, field(2, text(letter))),
  );
  const tensor = [...number(1, elementType), ...field(2, shape)];
  return [...field(1, text(name)), ...field(2, field(1, tensor))];
}
