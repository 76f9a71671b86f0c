import protobuf from "protobufjs/light.js";
import { OnnxMalformedError, OnnxUnsupportedError } from "./errors.js";
import type {
  Attribute,
  Dimension,
  Graph,
  Model,
  Node,
  Tensor,
  ValueInfo,
} from "./graph.js";
import {
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  schemaJson,
  type ValueInfoProto,
} from "./schema.js";
import { inferShapes } from "./shapes.js";
import {
  dataTypeFromNumber,
  dataTypes,
  numberFromInt64,
  protoFromTensor,
  tensorFromProto,
} from "./tensor-data.js";

const modelType = protobuf.Root.fromJSON(schemaJson).lookupType("ModelProto");

/** Version of the ONNX container that is written: 8 came with opset 15, and onnxruntime reads it everywhere. */
const IR_VERSION = 8;

/** Versions of other operator sets by domain, as onnxruntime registers them. */
const domainVersions: Readonly<Record<string, number>> = { "com.microsoft": 1 };

/**
 * Reads an ONNX model.
 *
 * Names are kept. Nodes without a name, or with one already used, get one from their operator; graph inputs
 * that only repeat an initializer (IR version 3) are dropped, so that `inputs` is what must be fed.
 *
 * @param bytes  the whole .onnx file; only read, nothing in the result points into it
 * @throws {OnnxMalformedError}   not ONNX, or cut short
 * @throws {OnnxUnsupportedError} external data, sparse tensors, functions, subgraphs, non-tensor values
 */
export function readModel(bytes: Uint8Array): Model {
  const proto = decode(bytes);
  const irVersion = numberFromInt64(proto.irVersion);
  const imports = proto.opsetImport ?? [];
  if (irVersion < 1 || proto.graph === undefined || proto.graph === null)
    throw new OnnxMalformedError("it has no graph");
  const standard = imports.find(
    ({ domain }) => (domain ?? "") === "" || domain === "ai.onnx",
  );
  if (standard === undefined)
    throw new OnnxMalformedError("it names no operator set");
  if ((proto.functions?.length ?? 0) > 0)
    throw new OnnxUnsupportedError(
      "model-local functions",
      "model",
      "inline the functions when exporting",
    );
  const opset = numberFromInt64(standard.version);
  const metadata = Object.fromEntries(
    (proto.metadataProps ?? [])
      .map(({ key, value }): [string, string] => [key ?? "", value ?? ""])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  const model = {
    graph: graphFromProto(proto.graph),
    opset,
    irVersion,
    metadata,
  };
  return withInferredOutputs(model, proto.graph);
}

function decode(bytes: Uint8Array): ModelProto {
  try {
    return modelType.decode(bytes) as unknown as ModelProto;
  } catch (cause) {
    // protobufjs throws RangeError at an early end and Error at a wrong wire type: neither is a bug of ours.
    throw new OnnxMalformedError("its bytes do not decode", { cause });
  }
}

function graphFromProto(proto: GraphProto): Graph {
  if ((proto.sparseInitializer?.length ?? 0) > 0)
    throw new OnnxUnsupportedError(
      "sparse initializers",
      "graph",
      "export the weights as dense tensors",
    );
  const initializers = new Map<string, Tensor>();
  for (const tensor of proto.initializer ?? []) {
    const name = tensor.name ?? "";
    if (name === "" || initializers.has(name))
      throw new OnnxMalformedError(
        `initializer "${name}" has no name of its own`,
      );
    initializers.set(name, tensorFromProto(tensor, name));
  }
  return {
    name: proto.name ?? "",
    inputs: (proto.input ?? [])
      .filter(({ name }) => !initializers.has(name ?? ""))
      .map(valueFromProto),
    outputs: (proto.output ?? []).map(valueFromProto),
    initializers,
    nodes: nodesFromProto(proto.node ?? []),
  };
}

function valueFromProto(proto: ValueInfoProto): ValueInfo {
  const name = proto.name ?? "";
  const tensor = proto.type?.tensorType;
  if (proto.type && !tensor)
    throw new OnnxUnsupportedError(
      "a value that is no tensor",
      `value "${name}"`,
      "export the model with tensor inputs and outputs",
    );
  const dims = (tensor?.shape?.dim ?? []).map((dim, i): Dimension => {
    if (dim.dimParam !== undefined && dim.dimParam !== "") return dim.dimParam;
    const value = numberFromInt64(dim.dimValue);
    return value > 0 ? value : `${name}_${i}`;
  });
  return {
    name,
    dataType: tensor
      ? dataTypeFromNumber(tensor.elemType ?? 0, name)
      : "float32",
    dims,
  };
}

function nodesFromProto(protos: readonly NodeProto[]): Node[] {
  const taken = new Set(protos.map(({ name }) => name ?? ""));
  const used = new Set<string>();
  return protos.map((proto, i) => {
    const opType = proto.opType ?? "";
    let name = proto.name ?? "";
    if (name === "" || used.has(name)) {
      name = `${opType}_${i}`;
      while (taken.has(name) || used.has(name)) name += "_";
    }
    used.add(name);
    const attributes = [...(proto.attribute ?? [])].sort((a, b) =>
      (a.name ?? "") < (b.name ?? "") ? -1 : 1,
    );
    return {
      name,
      opType,
      domain: proto.domain === "ai.onnx" ? "" : (proto.domain ?? ""),
      inputs: [...(proto.input ?? [])],
      outputs: [...(proto.output ?? [])],
      attributes: Object.fromEntries(
        attributes.map((attribute) => [
          attribute.name ?? "",
          attributeFromProto(attribute, name),
        ]),
      ),
    };
  });
}

/** ONNX's numbers for the attribute types (AttributeProto.AttributeType). */
const attributeTypes: Readonly<Record<Attribute["type"], number>> = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  floats: 6,
  ints: 7,
  strings: 8,
};

const text = new TextDecoder();
const bytesFromText = new TextEncoder();

function attributeFromProto(proto: AttributeProto, node: string): Attribute {
  const type = (Object.keys(attributeTypes) as Attribute["type"][]).find(
    (key) => attributeTypes[key] === proto.type,
  );
  const where = `attribute "${proto.name ?? ""}" of node "${node}"`;
  if (type === undefined) {
    const feature =
      proto.type === 5 || proto.type === 10
        ? "subgraph"
        : `attribute type ${proto.type ?? 0}`;
    throw new OnnxUnsupportedError(
      feature,
      where,
      "export the model without control flow",
    );
  }
  switch (type) {
    case "float":
      return { type, value: proto.f ?? 0 };
    case "int":
      return { type, value: numberFromInt64(proto.i) };
    case "string":
      return { type, value: text.decode(proto.s ?? new Uint8Array()) };
    case "tensor":
      if (!proto.t) throw new OnnxMalformedError(`${where} holds no tensor`);
      return { type, value: tensorFromProto(proto.t, where) };
    case "floats":
      return { type, value: [...(proto.floats ?? [])] };
    case "ints":
      return { type, value: (proto.ints ?? []).map(numberFromInt64) };
    case "strings":
      return {
        type,
        value: (proto.strings ?? []).map((bytes) => text.decode(bytes)),
      };
  }
}

/** Some exporters leave out the shape of outputs: it is then inferred, for a rank of 0 would be a lie. */
function withInferredOutputs(model: Model, proto: GraphProto): Model {
  const shapeless = new Set(
    (proto.output ?? [])
      .filter(({ type }) => !type?.tensorType?.shape)
      .map(({ name }) => name ?? ""),
  );
  if (shapeless.size === 0) return model;
  const open = {
    ...model.graph,
    outputs: model.graph.outputs.filter(({ name }) => !shapeless.has(name)),
  };
  const values = inferShapes({ ...model, graph: open });
  const outputs = model.graph.outputs.map((output) =>
    shapeless.has(output.name) ? (values.get(output.name) ?? output) : output,
  );
  return { ...model, graph: { ...model.graph, outputs } };
}

/**
 * Writes a model as ONNX bytes: the same model gives the same bytes.
 *
 * Attributes and metadata are written in the order of their names, initializers and nodes in the graph's.
 *
 * @returns the whole file's bytes, owned by the caller
 */
export function writeModel(model: Model): Uint8Array {
  const domains = new Set(model.graph.nodes.map(({ domain }) => domain));
  domains.delete("");
  const proto: ModelProto = {
    irVersion: Math.max(model.irVersion, IR_VERSION),
    producerName: "spcl-reid",
    graph: protoFromGraph(model.graph),
    opsetImport: [
      { domain: "", version: model.opset },
      ...[...domains].sort().map((domain) => ({
        domain,
        version: domainVersions[domain] ?? 1,
      })),
    ],
    metadataProps: Object.keys(model.metadata)
      .sort()
      .map((key) => ({ key, value: model.metadata[key] })),
  };
  return modelType.encode(proto).finish();
}

function protoFromGraph(graph: Graph): GraphProto {
  return {
    node: graph.nodes.map((node) => ({
      input: [...node.inputs],
      output: [...node.outputs],
      name: node.name,
      opType: node.opType,
      domain: node.domain,
      attribute: Object.keys(node.attributes)
        .sort()
        .map((name) => protoFromAttribute(name, node.attributes[name])),
    })),
    name: graph.name === "" ? "graph" : graph.name,
    initializer: [...graph.initializers].map(([name, tensor]) =>
      protoFromTensor(tensor, name),
    ),
    input: graph.inputs.map(protoFromValue),
    output: graph.outputs.map(protoFromValue),
  };
}

function protoFromAttribute(
  name: string,
  attribute: Attribute,
): AttributeProto {
  const proto = { name, type: attributeTypes[attribute.type] };
  switch (attribute.type) {
    case "float":
      return { ...proto, f: attribute.value };
    case "int":
      return { ...proto, i: attribute.value };
    case "string":
      return { ...proto, s: bytesFromText.encode(attribute.value) };
    case "tensor":
      return { ...proto, t: protoFromTensor(attribute.value, "") };
    case "floats":
      return { ...proto, floats: [...attribute.value] };
    case "ints":
      return { ...proto, ints: [...attribute.value] };
    case "strings":
      return {
        ...proto,
        strings: attribute.value.map((value) => bytesFromText.encode(value)),
      };
  }
}

function protoFromValue(value: ValueInfo): ValueInfoProto {
  return {
    name: value.name,
    type: {
      tensorType: {
        elemType: dataTypes[value.dataType].number,
        shape: {
          dim: value.dims.map((dim) =>
            typeof dim === "number" ? { dimValue: dim } : { dimParam: dim },
          ),
        },
      },
    },
  };
}
