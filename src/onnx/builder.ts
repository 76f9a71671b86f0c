import { assert } from "#core/errors";
import type {
  Attribute,
  DataType,
  Dimension,
  Graph,
  Node,
  Tensor,
  ValueInfo,
} from "./graph.js";

/** What `GraphBuilder.node` takes beside operator and inputs. */
export interface NodeOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Number of outputs (names are made), or their names; default one. */
  readonly outputs?: number | readonly string[];
  /** `''` (default) or `com.microsoft`. */
  readonly domain?: string;
  /** Name of the node, and the stem of its outputs' names; default from the operator. Made unique. */
  readonly name?: string;
}

/**
 * Writes a graph node by node, in topological order. Names it makes are unique and depend only on the calls
 * made before, so that the same calls give the same graph.
 *
 *     const g = new GraphBuilder("double");
 *     const x = g.input("x", "float32", ["batch", 8]);
 *     g.output(g.op("Mul", [x, g.constant(2)]), "float32", ["batch", 8], "y");
 *     const graph = g.build();
 */
export class GraphBuilder {
  readonly name: string;
  readonly #inputs: ValueInfo[] = [];
  readonly #outputs: ValueInfo[] = [];
  readonly #initializers = new Map<string, Tensor>();
  readonly #nodes: Node[] = [];
  /** Values and nodes are named apart: exporters often give both the same name. */
  readonly #names = new Set<string>();
  readonly #nodeNames = new Set<string>();
  readonly #counters = new Map<string, number>();
  readonly #scalars = new Map<string, string>();

  constructor(name: string) {
    this.name = name;
  }

  /** A builder that goes on where a graph ends: everything of it is taken over, its outputs only if asked for. */
  static extending(
    graph: Graph,
    { keepOutputs = false }: { readonly keepOutputs?: boolean } = {},
  ): GraphBuilder {
    const builder = new GraphBuilder(graph.name);
    builder.#inputs.push(...graph.inputs);
    if (keepOutputs) builder.#outputs.push(...graph.outputs);
    for (const [name, tensor] of graph.initializers)
      builder.#initializers.set(name, tensor);
    builder.#nodes.push(...graph.nodes);
    for (const { name } of graph.inputs) builder.#names.add(name);
    for (const name of graph.initializers.keys()) builder.#names.add(name);
    for (const node of graph.nodes) {
      builder.#nodeNames.add(node.name);
      for (const output of node.outputs) builder.#names.add(output);
    }
    return builder;
  }

  /** A value name that is free: the stem itself, else the stem with a number. Calling again gives another one. */
  uniqueName(stem: string): string {
    return this.#unique(stem, this.#names);
  }

  /** Whether a value of that name exists. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** Declares a graph input; the name is kept as it is and must be new. @returns the name */
  input(name: string, dataType: DataType, dims: readonly Dimension[]): string {
    this.#claim(name);
    this.#inputs.push({ name, dataType, dims });
    return name;
  }

  /**
   * Declares a value as graph output.
   *
   * @param as  its name outside; another than the value's own adds an Identity
   */
  output(
    value: string,
    dataType: DataType,
    dims: readonly Dimension[],
    as: string = value,
  ): string {
    if (as !== value) this.node("Identity", [value], { outputs: [as] });
    this.#outputs.push({ name: as, dataType, dims });
    return as;
  }

  /** A weight under exactly this name, which must be new. The tensor is not copied. @returns the name */
  initializer(name: string, tensor: Tensor): string {
    this.#claim(name);
    this.#initializers.set(name, tensor);
    return name;
  }

  /**
   * A constant. A number is a float32 scalar; equal unnamed scalars share one initializer.
   *
   * @param name  stem of its name; default `constant`
   */
  constant(value: number | Tensor, name?: string): string {
    if (typeof value !== "number")
      return this.#add(this.uniqueName(name ?? "constant"), value);
    const key = Object.is(value, -0) ? "-0" : String(value);
    const shared = name === undefined ? this.#scalars.get(key) : undefined;
    if (shared !== undefined) return shared;
    const made = this.#add(this.uniqueName(name ?? "constant"), {
      dataType: "float32",
      dims: [],
      data: Float32Array.of(value),
    });
    if (name === undefined) this.#scalars.set(key, made);
    return made;
  }

  /** A constant list of int64, such as axes or a shape; equal unnamed lists share one initializer. */
  ints(values: readonly number[], name?: string): string {
    const key = `[${values.join(",")}]`;
    const shared = name === undefined ? this.#scalars.get(key) : undefined;
    if (shared !== undefined) return shared;
    const made = this.#add(this.uniqueName(name ?? "ints"), {
      dataType: "int64",
      dims: [values.length],
      data: BigInt64Array.from(values, BigInt),
    });
    if (name === undefined) this.#scalars.set(key, made);
    return made;
  }

  /** Adds a node. An empty string leaves out an optional input. @returns the names of its outputs */
  node(
    opType: string,
    inputs: readonly string[],
    { attributes = {}, outputs = 1, domain = "", name }: NodeOptions = {},
  ): string[] {
    const own = this.#unique(name ?? opType, this.#nodeNames);
    const names =
      typeof outputs === "number"
        ? Array.from({ length: outputs }, (_, i) =>
            this.uniqueName(`${own}:${i}`),
          )
        : outputs.map((output) => {
            if (output !== "") this.#claim(output);
            return output;
          });
    this.#nodes.push({
      name: own,
      opType,
      domain,
      inputs: [...inputs],
      outputs: names,
      attributes,
    });
    return names;
  }

  /** Adds a node with one output. @returns the output's name */
  op(
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    name?: string,
  ): string {
    const options = name === undefined ? { attributes } : { attributes, name };
    return this.node(opType, inputs, options)[0];
  }

  /** The graph so far; the builder may go on. */
  build(): Graph {
    return {
      name: this.name,
      inputs: [...this.#inputs],
      outputs: [...this.#outputs],
      initializers: new Map(this.#initializers),
      nodes: [...this.#nodes],
    };
  }

  #claim(name: string): void {
    assert(
      name !== "" && !this.#names.has(name),
      `name "${name}" is new in graph "${this.name}"`,
    );
    this.#names.add(name);
  }

  #add(name: string, tensor: Tensor): string {
    this.#initializers.set(name, tensor);
    return name;
  }

  #unique(stem: string, taken: Set<string>): string {
    let name = stem;
    let count = this.#counters.get(stem) ?? 0;
    while (taken.has(name)) name = `${stem}_${++count}`;
    this.#counters.set(stem, count);
    taken.add(name);
    return name;
  }
}

/** An `int` attribute. */
export const int = (value: number): Attribute => ({ type: "int", value });
/** An `ints` attribute. */
export const ints = (...value: readonly number[]): Attribute => ({
  type: "ints",
  value,
});
/** A `float` attribute. */
export const float = (value: number): Attribute => ({ type: "float", value });
/** A `string` attribute. */
export const string = (value: string): Attribute => ({ type: "string", value });
