/** One field of a protobuf message in the form that protobufjs takes. */
interface SchemaField {
  readonly type: string;
  readonly id: number;
  readonly rule?: "repeated";
  readonly options?: { readonly packed: boolean };
}

type SchemaMessage = Readonly<Record<string, SchemaField>>;

const one = (type: string, id: number): SchemaField => ({ type, id });
const many = (type: string, id: number): SchemaField => ({
  type,
  id,
  rule: "repeated",
  options: { packed: false },
});
const packed = (type: string, id: number): SchemaField => ({
  type,
  id,
  rule: "repeated",
  options: { packed: true },
});

/**
 * The messages of ONNX that this project reads or writes, with the format's published field numbers.
 *
 * Fields that are only refused (external data, subgraphs, functions, sparse tensors) are here too,
 * so that they are seen. Enums are int32: the numbers are in the tables of `tensor-data.ts` and `model.ts`.
 *
 * Source: onnx/onnx onnx/onnx.proto (IR version 8 to 10).
 */
const messages: Readonly<Record<string, SchemaMessage>> = {
  ModelProto: {
    irVersion: one("int64", 1),
    producerName: one("string", 2),
    producerVersion: one("string", 3),
    graph: one("GraphProto", 7),
    opsetImport: many("OperatorSetIdProto", 8),
    metadataProps: many("StringStringEntryProto", 14),
    functions: many("bytes", 25),
  },
  OperatorSetIdProto: { domain: one("string", 1), version: one("int64", 2) },
  StringStringEntryProto: { key: one("string", 1), value: one("string", 2) },
  GraphProto: {
    node: many("NodeProto", 1),
    name: one("string", 2),
    initializer: many("TensorProto", 5),
    input: many("ValueInfoProto", 11),
    output: many("ValueInfoProto", 12),
    sparseInitializer: many("bytes", 15),
  },
  NodeProto: {
    input: many("string", 1),
    output: many("string", 2),
    name: one("string", 3),
    opType: one("string", 4),
    attribute: many("AttributeProto", 5),
    domain: one("string", 7),
  },
  AttributeProto: {
    name: one("string", 1),
    f: one("float", 2),
    i: one("int64", 3),
    s: one("bytes", 4),
    t: one("TensorProto", 5),
    g: one("bytes", 6),
    floats: many("float", 7),
    ints: many("int64", 8),
    strings: many("bytes", 9),
    type: one("int32", 20),
  },
  TensorProto: {
    dims: many("int64", 1),
    dataType: one("int32", 2),
    segment: one("bytes", 3),
    floatData: packed("float", 4),
    int32Data: packed("int32", 5),
    int64Data: packed("int64", 7),
    name: one("string", 8),
    rawData: one("bytes", 9),
    doubleData: packed("double", 10),
    uint64Data: packed("uint64", 11),
    externalData: many("StringStringEntryProto", 13),
    dataLocation: one("int32", 14),
  },
  ValueInfoProto: { name: one("string", 1), type: one("TypeProto", 2) },
  TypeProto: { tensorType: one("TensorTypeProto", 1) },
  TensorTypeProto: {
    elemType: one("int32", 1),
    shape: one("TensorShapeProto", 2),
  },
  TensorShapeProto: { dim: many("DimensionProto", 1) },
  DimensionProto: { dimValue: one("int64", 1), dimParam: one("string", 2) },
};

/** The same in the JSON form of protobufjs. */
export const schemaJson = {
  nested: Object.fromEntries(
    Object.entries(messages).map(([name, fields]) => [name, { fields }]),
  ),
};

/** A 64-bit integer as protobufjs reads it, or a number where one is written. */
export type Int64 =
  number | { readonly low: number; readonly high: number } | null;

/** Message shapes as they come out of the decoder; scalars that are not set are undefined or their zero. */
export interface TensorProto {
  dims?: Int64[];
  dataType?: number;
  segment?: Uint8Array;
  floatData?: number[];
  int32Data?: number[];
  int64Data?: Int64[];
  name?: string;
  rawData?: Uint8Array;
  doubleData?: number[];
  uint64Data?: Int64[];
  externalData?: unknown[];
  dataLocation?: number;
}

/** See onnx.proto, AttributeProto. */
export interface AttributeProto {
  name?: string;
  f?: number;
  i?: Int64;
  s?: Uint8Array;
  t?: TensorProto;
  g?: Uint8Array;
  floats?: number[];
  ints?: Int64[];
  strings?: Uint8Array[];
  type?: number;
}

/** See onnx.proto, NodeProto. */
export interface NodeProto {
  input?: string[];
  output?: string[];
  name?: string;
  opType?: string;
  attribute?: AttributeProto[];
  domain?: string;
}

/** See onnx.proto, ValueInfoProto, flattened to what is read of it. */
export interface ValueInfoProto {
  name?: string;
  type?: {
    tensorType?: {
      elemType?: number;
      shape?: { dim?: { dimValue?: Int64; dimParam?: string }[] };
    };
  };
}

/** See onnx.proto, GraphProto. */
export interface GraphProto {
  node?: NodeProto[];
  name?: string;
  initializer?: TensorProto[];
  input?: ValueInfoProto[];
  output?: ValueInfoProto[];
  sparseInitializer?: Uint8Array[];
}

/** See onnx.proto, ModelProto. */
export interface ModelProto {
  irVersion?: Int64;
  producerName?: string;
  producerVersion?: string;
  graph?: GraphProto;
  opsetImport?: { domain?: string; version?: Int64 }[];
  metadataProps?: { key?: string; value?: string }[];
  functions?: Uint8Array[];
}
