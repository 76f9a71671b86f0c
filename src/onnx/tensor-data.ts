import { OnnxMalformedError, OnnxUnsupportedError } from "./errors.js";
import type { ArrayOf, DataType, Tensor } from "./graph.js";
import type { Int64, TensorProto } from "./schema.js";

/** Element types with ONNX's number for them (TensorProto.DataType) and their array. */
export const dataTypes: {
  readonly [T in DataType]: {
    readonly number: number;
    readonly bytes: number;
    readonly create: (buffer: ArrayBuffer) => ArrayOf[T];
  };
} = {
  float32: { number: 1, bytes: 4, create: (b) => new Float32Array(b) },
  uint8: { number: 2, bytes: 1, create: (b) => new Uint8Array(b) },
  int8: { number: 3, bytes: 1, create: (b) => new Int8Array(b) },
  uint16: { number: 4, bytes: 2, create: (b) => new Uint16Array(b) },
  int16: { number: 5, bytes: 2, create: (b) => new Int16Array(b) },
  int32: { number: 6, bytes: 4, create: (b) => new Int32Array(b) },
  int64: { number: 7, bytes: 8, create: (b) => new BigInt64Array(b) },
  bool: { number: 9, bytes: 1, create: (b) => new Uint8Array(b) },
  float16: { number: 10, bytes: 2, create: (b) => new Uint16Array(b) },
  float64: { number: 11, bytes: 8, create: (b) => new Float64Array(b) },
  uint32: { number: 12, bytes: 4, create: (b) => new Uint32Array(b) },
  uint64: { number: 13, bytes: 8, create: (b) => new BigUint64Array(b) },
};

const typeByNumber = new Map<number, DataType>(
  (Object.keys(dataTypes) as DataType[]).map((type) => [
    dataTypes[type].number,
    type,
  ]),
);

/**
 * The element type with ONNX's number.
 *
 * @throws {OnnxMalformedError}   the number is 0 or none of ONNX's
 * @throws {OnnxUnsupportedError} strings, complex numbers, bfloat16 and the 8-bit and 4-bit types
 */
export function dataTypeFromNumber(number: number, where: string): DataType {
  const type = typeByNumber.get(number);
  if (type !== undefined) return type;
  if (number < 1 || number > 26)
    throw new OnnxMalformedError(`element type ${number} at "${where}"`);
  throw new OnnxUnsupportedError(
    `element type number ${number}`,
    where,
    "convert the model to float32",
  );
}

/** A protobuf integer as a JavaScript number; beyond 2^53 rounded. */
export function numberFromInt64(value: Int64 | undefined): number {
  if (value === undefined || value === null) return 0;
  if (typeof value === "number") return value;
  return value.high * 4294967296 + (value.low >>> 0);
}

function bigintFromInt64(value: Int64): bigint {
  if (value === null) return 0n;
  if (typeof value === "number") return BigInt(value);
  return (BigInt(value.high) << 32n) | BigInt(value.low >>> 0);
}

/**
 * A tensor from its message; the data is a copy.
 *
 * @throws {OnnxMalformedError}   the bytes do not fit the dimensions
 * @throws {OnnxUnsupportedError} external or segmented data, or an element type not read
 */
export function tensorFromProto(proto: TensorProto, where: string): Tensor {
  const name =
    proto.name === undefined || proto.name === "" ? where : proto.name;
  if (proto.dataLocation === 1 || (proto.externalData?.length ?? 0) > 0)
    throw new OnnxUnsupportedError(
      "external data",
      `tensor "${name}"`,
      "save the model with its weights inside the one file",
    );
  if (proto.segment !== undefined && proto.segment.length > 0)
    throw new OnnxUnsupportedError(
      "segmented tensor",
      `tensor "${name}"`,
      "save the model with whole tensors",
    );
  const dataType = dataTypeFromNumber(proto.dataType ?? 0, name);
  const dims = (proto.dims ?? []).map(numberFromInt64);
  for (const dim of dims)
    if (!Number.isSafeInteger(dim) || dim < 0)
      throw new OnnxMalformedError(`dimension ${dim} of tensor "${name}"`);
  const count = dims.reduce((product, dim) => product * dim, 1);
  const row = dataTypes[dataType];
  const raw = proto.rawData;
  const received = raw?.length
    ? raw.length / row.bytes
    : typedLength(proto, dataType);
  if (received !== count)
    throw new OnnxMalformedError(
      `tensor "${name}" of dimensions [${dims.join(", ")}] holds ${received} numbers instead of ${count}`,
    );
  const buffer = new ArrayBuffer(count * row.bytes);
  if (raw?.length) new Uint8Array(buffer).set(raw);
  else fillTyped(proto, dataType, buffer);
  return { dataType, dims, data: row.create(buffer) };
}

/** Which repeated field holds a type's numbers when they are not raw bytes (onnx.proto, TensorProto). */
const typedField: Readonly<
  Record<
    DataType,
    "floatData" | "doubleData" | "int32Data" | "int64Data" | "uint64Data"
  >
> = {
  float32: "floatData",
  float64: "doubleData",
  float16: "int32Data",
  uint8: "int32Data",
  int8: "int32Data",
  uint16: "int32Data",
  int16: "int32Data",
  int32: "int32Data",
  bool: "int32Data",
  int64: "int64Data",
  uint32: "uint64Data",
  uint64: "uint64Data",
};

function typedLength(proto: TensorProto, type: DataType): number {
  return proto[typedField[type]]?.length ?? 0;
}

function fillTyped(proto: TensorProto, type: DataType, buffer: ArrayBuffer) {
  const array = dataTypes[type].create(buffer);
  const values = proto[typedField[type]] ?? [];
  if (array instanceof BigInt64Array || array instanceof BigUint64Array)
    values.forEach((value, i) => (array[i] = bigintFromInt64(value)));
  else values.forEach((value, i) => (array[i] = numberFromInt64(value)));
}

/** A tensor's message: always raw bytes, so that equal tensors give equal bytes. The bytes are a view. */
export function protoFromTensor(tensor: Tensor, name: string): TensorProto {
  const { data } = tensor;
  return {
    dims: [...tensor.dims],
    dataType: dataTypes[tensor.dataType].number,
    name,
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}
