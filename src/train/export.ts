import { ShapeError } from "#core/errors";
import { GraphBuilder, int, ints } from "#onnx/builder";
import { checkGraph } from "#onnx/check";
import { foldConstants } from "#onnx/folding";
import type { Graph, Model, Tensor } from "#onnx/graph";

/** How pixels become the encoder's input: (pixel · scale − mean) / std, per channel. */
export interface Preprocessing {
  readonly heightPx: number;
  readonly widthPx: number;
  /** Red, green, blue, after scaling. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Usually 1/255. */
  readonly scale: number;
}

/** The first operator set whose Reduce operators take their axes as input. */
const AXES_AS_INPUT = 18;

/** Smallest norm that is divided by, as torch.nn.functional.normalize. */
const SMALLEST_NORM = 1e-12;

/**
 * Puts preprocessing in front of an encoder and L2 normalization behind it (design: preprocessing is inside the graph,
 * so that training and serving cannot drift apart).
 *
 *     feature = f / max(‖f‖₂, 1e-12),  f = encoder((image · scale − mean) / std)
 *
 * Scale, mean and deviation are folded into one factor and one summand a channel. They are not folded into the first
 * convolution: its zero padding is zero after normalization.
 *
 * @param encoder  float32 [batch, 3, H, W] to float32 [batch, D]
 * @returns        uint8 `image` [batch, H, W, 3] RGB to float32 `feature` [batch, D], unit L2 norm
 */
export function serveableEncoder(
  encoder: Model,
  preprocessing: Preprocessing,
): Model {
  const { heightPx, widthPx, mean, std, scale } = preprocessing;
  for (const [name, list] of [
    ["mean", mean],
    ["std", std],
  ] as const)
    if (list.length !== 3)
      throw new ShapeError(name, "three numbers", `${list.length}`);
  const inner = withPrivateNames(foldConstants(encoder).graph);
  const builder = new GraphBuilder(
    encoder.graph.name === "" ? "encoder" : encoder.graph.name,
  );
  const image = builder.input("image", "uint8", [
    "batch",
    heightPx,
    widthPx,
    3,
  ]);
  const planes = builder.op(
    "Transpose",
    [image],
    { perm: ints(0, 3, 1, 2) },
    "preprocess.planes",
  );
  const pixels = builder.op(
    "Cast",
    [planes],
    { to: int(1) },
    "preprocess.float",
  );
  const factor = builder.constant(
    perChannel(std.map((s) => scale / s)),
    "preprocess.factor",
  );
  const summand = builder.constant(
    perChannel(std.map((s, i) => -mean[i] / s)),
    "preprocess.summand",
  );
  const scaled = builder.op("Mul", [pixels, factor], {}, "preprocess.scaled");
  builder.node("Add", [scaled, summand], {
    outputs: [inner.inputs[0].name],
    name: "preprocess.normalized",
  });
  for (const [name, tensor] of inner.initializers)
    builder.initializer(name, tensor);
  for (const {
    opType,
    inputs,
    outputs,
    attributes,
    domain,
    name,
  } of inner.nodes)
    builder.node(opType, inputs, { outputs, attributes, domain, name });
  const [output] = inner.outputs;
  const norm = norm2(builder, output.name, encoder.opset);
  const floor = builder.constant(SMALLEST_NORM, "l2.smallest");
  const divisor = builder.op("Max", [norm, floor], {}, "l2.divisor");
  builder.node("Div", [output.name, divisor], {
    outputs: ["feature"],
    name: "l2.unit",
  });
  builder.output("feature", "float32", ["batch", output.dims[1]]);
  const model = { ...encoder, graph: builder.build() };
  checkGraph(model);
  return model;
}

function norm2(builder: GraphBuilder, value: string, opset: number): string {
  return opset >= AXES_AS_INPUT
    ? builder.op(
        "ReduceL2",
        [value, builder.ints([1])],
        { keepdims: int(1) },
        "l2.norm",
      )
    : builder.op(
        "ReduceL2",
        [value],
        { axes: ints(1), keepdims: int(1) },
        "l2.norm",
      );
}

function perChannel(values: readonly number[]): Tensor {
  return {
    dataType: "float32",
    dims: [1, values.length, 1, 1],
    data: Float32Array.from(values),
  };
}

/** Names that the outside or the added nodes use get a prefix within the encoder. */
function withPrivateNames(graph: Graph): Graph {
  const isTaken = (name: string) =>
    name === "image" ||
    name === "feature" ||
    name.startsWith("preprocess.") ||
    name.startsWith("l2.");
  const names = new Set([
    ...graph.inputs.map(({ name }) => name),
    ...graph.initializers.keys(),
    ...graph.nodes.flatMap(({ name, outputs }) => [name, ...outputs]),
  ]);
  const renamed = (name: string) => {
    if (!isTaken(name)) return name;
    let free = `encoder.${name}`;
    while (names.has(free)) free = `encoder.${free}`;
    return free;
  };
  return {
    ...graph,
    inputs: graph.inputs.map((value) => ({
      ...value,
      name: renamed(value.name),
    })),
    outputs: graph.outputs.map((value) => ({
      ...value,
      name: renamed(value.name),
    })),
    initializers: new Map(
      [...graph.initializers].map(([name, tensor]) => [renamed(name), tensor]),
    ),
    nodes: graph.nodes.map((node) => ({
      ...node,
      name: renamed(node.name),
      inputs: node.inputs.map(renamed),
      outputs: node.outputs.map(renamed),
    })),
  };
}
