import { kernels, tensorFromNumbers } from "./folding/kernels.js";
import type { Dimension, Graph, Model, Node, Tensor } from "./graph.js";
import { isKnownOperator } from "./operators.js";
import { inferKnown } from "./shapes.js";
import { constantTensor } from "./shapes/constants.js";
import type { Known } from "./shapes/rule.js";

/** Folded tensors larger than this stay nodes: shape arithmetic is short. */
const MOST_ELEMENTS = 65536;

/**
 * Removes what is known before the run, so that only arithmetic on data is left.
 *
 * - Shape arithmetic whose result is known becomes a constant; the batch stays symbolic. A Reshape target with one
 *   symbolic entry gets −1 there.
 * - Constant nodes and arithmetic on them become constants. Initializers of the model that hold floating-point numbers
 *   are weights and never folded away: they keep their names.
 * - Identity and inference-mode Dropout vanish. An Identity of an initializer, as exporters leave for weights that
 *   happen to be equal, becomes an initializer of its own under the Identity's output name.
 * - What no output needs is dropped.
 *
 * Names of the remaining nodes and values are as they were.
 */
export function foldConstants(model: Model): Model {
  const known = inferKnown(model);
  const { graph } = model;
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const initializers = new Map<string, Tensor>(graph.initializers);
  const foldable = new Set<string>();
  for (const [name, tensor] of graph.initializers)
    if (!tensor.dataType.startsWith("float")) foldable.add(name);
  const renamed = new Map<string, string>();
  const nodes: Node[] = [];
  const fold = (name: string, tensor: Tensor) => {
    initializers.set(name, tensor);
    foldable.add(name);
  };
  for (const original of graph.nodes) {
    const node = renameInputs(original, renamed);
    const [output] = node.outputs;
    const value = known.get(output);
    const needed = node.outputs.some((name) => outputs.has(name));
    const shape = shapeConstant(value);
    const weight = initializers.get(node.inputs[0] ?? "");
    const folded = needed
      ? undefined
      : ((node.outputs.length === 1 ? shape : undefined) ??
        evaluate(node, initializers, foldable, value));
    if (folded !== undefined) fold(output, folded);
    else if (node.opType === "Identity" && !needed && weight !== undefined)
      initializers.set(output, weight);
    else if (isPassThrough(node) && !needed)
      renamed.set(output, node.inputs[0]);
    else nodes.push(withFreeReshape(node, known, initializers));
  }
  return { ...model, graph: withoutUnused({ ...graph, initializers, nodes }) };
}

function renameInputs(node: Node, renamed: ReadonlyMap<string, string>): Node {
  if (!node.inputs.some((name) => renamed.has(name))) return node;
  return {
    ...node,
    inputs: node.inputs.map((name) => renamed.get(name) ?? name),
  };
}

function isPassThrough(node: Node): boolean {
  if (node.opType === "Identity") return true;
  // The mask, if asked for, is all true in inference and nobody reads it.
  return (
    node.opType === "Dropout" &&
    (node.inputs[2] ?? "") === "" &&
    (node.outputs[1] ?? "") === ""
  );
}

/** A constant from elements that inference knows, all of them numbers. */
function shapeConstant(value: Known | undefined): Tensor | undefined {
  if (value?.contents === undefined) return undefined;
  if (![...value.contents, ...value.dims].every((x) => typeof x === "number"))
    return undefined;
  return tensorFromNumbers(
    value.dataType,
    value.dims as number[],
    value.contents as number[],
  );
}

function evaluate(
  node: Node,
  initializers: ReadonlyMap<string, Tensor>,
  foldable: ReadonlySet<string>,
  value: Known | undefined,
): Tensor | undefined {
  if (!isKnownOperator(node.opType, node.domain) || value === undefined)
    return undefined;
  if (node.opType === "Constant") return constantTensor(node.attributes);
  const kernel = kernels[node.opType];
  if (kernel === undefined || !node.inputs.every((name) => foldable.has(name)))
    return undefined;
  if (!value.dims.every((dim) => typeof dim === "number")) return undefined;
  const dims = value.dims as number[];
  if (dims.reduce((product, dim) => product * dim, 1) > MOST_ELEMENTS)
    return undefined;
  const inputs = node.inputs.flatMap((name) => initializers.get(name) ?? []);
  const result = kernel(inputs, node);
  return result && { ...result, dims };
}

/** A Reshape whose result has exactly one symbolic dimension takes a constant with −1 there. */
function withFreeReshape(
  node: Node,
  known: ReadonlyMap<string, Known>,
  initializers: Map<string, Tensor>,
): Node {
  if (node.opType !== "Reshape" || initializers.has(node.inputs[1]))
    return node;
  // From the result, where inference has resolved 0 and −1 already.
  const target: readonly Dimension[] = known.get(node.outputs[0])?.dims ?? [];
  const symbols = target.filter((dim) => typeof dim !== "number");
  if (symbols.length !== 1 || target.includes(0)) return node;
  const values = target.map((dim) => (typeof dim === "number" ? dim : -1));
  const name = `${node.name}:shape`;
  initializers.set(name, {
    dataType: "int64",
    dims: [values.length],
    data: BigInt64Array.from(values, BigInt),
  });
  return { ...node, inputs: [node.inputs[0], name] };
}

/** Drops nodes and initializers that no output needs. */
export function withoutUnused(graph: Graph): Graph {
  const needed = new Set(graph.outputs.map(({ name }) => name));
  const nodes: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
    nodes.push(node);
  }
  const initializers = new Map(
    [...graph.initializers].filter(([name]) => needed.has(name)),
  );
  return { ...graph, initializers, nodes: nodes.reverse() };
}
