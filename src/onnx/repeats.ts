import type { Attribute, Graph, Node, Tensor } from "./graph.js";

/**
 * Computes once what several nodes compute alike: same operator, same attributes, same inputs.
 *
 * Initializers count as the same where they are the same object or are equal and short. Of equal nodes the first
 * stays; values that are graph outputs keep their names. Operators that draw random numbers do not occur here.
 */
export function withoutRepeats(graph: Graph): Graph {
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const renamed = sharedInitializers(graph.initializers);
  const first = new Map<string, Node>();
  const nodes: Node[] = [];
  for (const original of graph.nodes) {
    const node = {
      ...original,
      inputs: original.inputs.map((name) => renamed.get(name) ?? name),
    };
    const key = keyOf(node);
    const earlier = first.get(key);
    const isSame =
      earlier !== undefined &&
      node.outputs.every(
        (name, i) =>
          name === "" ||
          (!outputs.has(name) && (earlier.outputs[i] ?? "") !== ""),
      );
    if (isSame)
      node.outputs.forEach((name, i) => renamed.set(name, earlier.outputs[i]));
    else {
      nodes.push(node);
      if (earlier === undefined) first.set(key, node);
    }
  }
  return { ...graph, nodes };
}

/** Lets the node that makes a value write the graph output itself where an Identity stood between them. */
export function withoutOutputCopies(graph: Graph): Graph {
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const made = new Set(graph.nodes.flatMap((node) => node.outputs));
  const renamed = new Map<string, string>();
  const copies = new Set<Node>();
  for (const node of graph.nodes) {
    const [input] = node.inputs;
    const [output] = node.outputs;
    if (node.opType !== "Identity" || !outputs.has(output)) continue;
    if (!made.has(input) || outputs.has(input) || renamed.has(input)) continue;
    renamed.set(input, output);
    copies.add(node);
  }
  const present = (name: string) => renamed.get(name) ?? name;
  const nodes = graph.nodes
    .filter((node) => !copies.has(node))
    .map((node) => ({
      ...node,
      inputs: node.inputs.map(present),
      outputs: node.outputs.map(present),
    }));
  return { ...graph, nodes };
}

/** Longest initializer that is compared by its elements. */
const SHORT = 64;

/** From each initializer that has an equal before it to that one. */
function sharedInitializers(
  initializers: ReadonlyMap<string, Tensor>,
): Map<string, string> {
  const first = new Map<Tensor | string, string>();
  const renamed = new Map<string, string>();
  for (const [name, tensor] of initializers) {
    const key =
      tensor.data.length > SHORT ? tensor : JSON.stringify(plainTensor(tensor));
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, name);
    else renamed.set(name, earlier);
  }
  return renamed;
}

function keyOf({ opType, domain, inputs, outputs, attributes }: Node): string {
  const sorted = Object.entries(attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, attribute]) => [name, plainAttribute(attribute)]);
  return JSON.stringify([domain, opType, inputs, outputs.length, sorted]);
}

function plainAttribute(attribute: Attribute): unknown {
  return attribute.type === "tensor" ? plainTensor(attribute.value) : attribute;
}

function plainTensor({ dataType, dims, data }: Tensor): unknown {
  return [dataType, dims, Array.from(data, String)];
}
