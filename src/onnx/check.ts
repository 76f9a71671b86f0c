import {
  GraphInvalidError,
  OnnxUnsupportedError,
  OperatorUnsupportedError,
} from "./errors.js";
import type { Model, Node, ValueInfo } from "./graph.js";
import { isKnownOperator, operators } from "./operators.js";
import { inferShapes } from "./shapes.js";
import { textOfDims } from "./shapes/rule.js";
import { dataTypes } from "./tensor-data.js";

/** Operator sets that are read and written: from 13 on axes and shapes are inputs; 21 is the last one tried. */
export const OPSETS = { least: 13, largest: 21 } as const;

/**
 * Checks a model whole: operator set, every operator's name, arity and attributes, names, topological order,
 * types and shapes, and that the declared outputs are what comes out.
 *
 * @returns type and shape of every value, as `inferShapes`
 * @throws {GraphInvalidError}        names, order, arity, types or shapes do not fit
 * @throws {OperatorUnsupportedError} an operator that is not in the table
 * @throws {OnnxUnsupportedError}     an operator set outside 13 to 21
 */
export function checkGraph(model: Model): ReadonlyMap<string, ValueInfo> {
  checkOpset(model);
  checkTensors(model);
  for (const node of model.graph.nodes) checkNode(node, model.opset);
  checkNames(model);
  const values = inferShapes(model);
  checkOutputs(model, values);
  return values;
}

/** @throws {OnnxUnsupportedError} the operator set is outside what is read */
function checkOpset({ opset }: Model): void {
  if (opset < OPSETS.least || opset > OPSETS.largest)
    throw new OnnxUnsupportedError(
      `operator set ${opset}`,
      "model",
      `export the model with opset ${OPSETS.least} to ${OPSETS.largest}, for example 17`,
    );
}

function checkTensors({ graph }: Model): void {
  for (const [name, { dataType, dims, data }] of graph.initializers) {
    const count = dims.reduce((product, dim) => product * dim, 1);
    const { bytes } = dataTypes[dataType];
    if (data.length !== count || data.BYTES_PER_ELEMENT !== bytes)
      throw new GraphInvalidError(
        name,
        `initializer of ${data.length} numbers of ${data.BYTES_PER_ELEMENT} bytes for ${dataType} ${textOfDims(dims)}`,
      );
  }
}

function checkNode(node: Node, opset: number): void {
  const { name, opType, domain } = node;
  if (!isKnownOperator(opType, domain))
    throw new OperatorUnsupportedError(
      domain === "" ? opType : `${domain}.${opType}`,
      opset,
      name,
      "operators listed in docs/operators.md",
    );
  const facts = operators[opType];
  if (facts.since !== undefined && opset < facts.since)
    throw new OperatorUnsupportedError(
      opType,
      opset,
      name,
      `opset ${facts.since} or later`,
    );
  const within = (count: number, [least, most]: readonly [number, number]) =>
    count >= least && count <= most;
  if (!within(node.inputs.length, facts.inputs))
    throw new GraphInvalidError(
      name,
      `${opType} has ${node.inputs.length} inputs, takes ${facts.inputs.join(" to ")}`,
    );
  if (!within(node.outputs.length, facts.outputs))
    throw new GraphInvalidError(
      name,
      `${opType} has ${node.outputs.length} outputs, gives ${facts.outputs.join(" to ")}`,
    );
  for (const [key, attribute] of Object.entries(node.attributes)) {
    const known = facts.attributes[key];
    if (known === undefined)
      throw new GraphInvalidError(name, `${opType} has no attribute ${key}`);
    if (known.type !== attribute.type)
      throw new GraphInvalidError(
        name,
        `attribute ${key} is of type ${attribute.type}, not ${known.type}`,
      );
  }
  for (const [key, known] of Object.entries(facts.attributes))
    if (known.required === true && node.attributes[key] === undefined)
      throw new GraphInvalidError(name, `${opType} needs attribute ${key}`);
}

function checkNames({ graph }: Model): void {
  const values = new Set<string>();
  const define = (name: string, by: string) => {
    if (name === "") throw new GraphInvalidError(by, "a value without a name");
    if (values.has(name))
      throw new GraphInvalidError(by, `value "${name}" is made twice`);
    values.add(name);
  };
  for (const { name } of graph.inputs) define(name, "graph input");
  for (const name of graph.initializers.keys()) define(name, "initializer");
  const nodes = new Set<string>();
  for (const node of graph.nodes) {
    if (nodes.has(node.name))
      throw new GraphInvalidError(node.name, "two nodes of that name");
    nodes.add(node.name);
    for (const input of node.inputs)
      if (input !== "" && !values.has(input))
        throw new GraphInvalidError(
          node.name,
          `input "${input}" exists nowhere before it`,
        );
    for (const output of node.outputs)
      if (output !== "") define(output, node.name);
  }
  const outputs = new Set<string>();
  for (const { name } of graph.outputs) {
    if (!values.has(name))
      throw new GraphInvalidError(name, "a graph output that nothing makes");
    if (outputs.has(name))
      throw new GraphInvalidError(name, "a graph output twice");
    outputs.add(name);
  }
  if (graph.outputs.length === 0)
    throw new GraphInvalidError(graph.name, "no outputs");
}

function checkOutputs(
  { graph }: Model,
  values: ReadonlyMap<string, ValueInfo>,
): void {
  for (const declared of graph.outputs) {
    const found = values.get(declared.name);
    if (found === undefined) continue;
    const fits =
      found.dataType === declared.dataType &&
      found.dims.length === declared.dims.length &&
      found.dims.every((dim, i) => {
        const other = declared.dims[i];
        return (
          typeof dim !== "number" || typeof other !== "number" || dim === other
        );
      });
    if (!fits)
      throw new GraphInvalidError(
        declared.name,
        `declared as ${declared.dataType} ${textOfDims(declared.dims)}, comes out as ${found.dataType} ${textOfDims(found.dims)}`,
      );
  }
}
