import { canEqual } from "../dimensions.js";
import { GraphInvalidError } from "../errors.js";
import type {
  Attribute,
  DataType,
  Dimension,
  Node,
  Tensor,
  ValueInfo,
} from "../graph.js";
import { type OperatorName, operators } from "../operators.js";

/** What is known of a value: its type and shape and, for small integer values such as shapes, its elements. */
export interface Known {
  readonly dataType: DataType;
  readonly dims: readonly Dimension[];
  /** Elements in row-major order; symbolic where they are dimensions that only the run will tell. */
  readonly contents?: readonly Dimension[];
}

/** What a rule sees of its node: inputs as far as known, attributes with their defaults. */
export class RuleContext {
  readonly node: Node;
  readonly opset: number;
  readonly inputs: readonly (Known | undefined)[];
  readonly #constants: ReadonlyMap<string, Tensor>;

  constructor(
    node: Node,
    opset: number,
    inputs: readonly (Known | undefined)[],
    constants: ReadonlyMap<string, Tensor>,
  ) {
    this.node = node;
    this.opset = opset;
    this.inputs = inputs;
    this.#constants = constants;
  }

  /** An input that must be there. @throws {GraphInvalidError} it is left out */
  input(i: number): Known {
    return this.inputs[i] ?? this.fail(`input ${i} is missing`);
  }

  /** The tensor of an input that is an initializer. */
  constant(i: number): Tensor | undefined {
    return this.#constants.get(this.node.inputs[i] ?? "");
  }

  /** The elements of an integer input as plain numbers; undefined where left out. */
  numbers(i: number): readonly number[] | undefined {
    const input = this.inputs[i];
    if (input === undefined) return undefined;
    const { contents } = input;
    if (contents === undefined || !contents.every((x) => typeof x === "number"))
      this.fail(`input ${i} is not known before the run`);
    return contents as readonly number[];
  }

  int(name: string): number | undefined {
    return this.#attribute(name, "int") as number | undefined;
  }

  ints(name: string): readonly number[] | undefined {
    return this.#attribute(name, "ints") as readonly number[] | undefined;
  }

  /** An integer attribute that has a default or is required. */
  intOf(name: string): number {
    return this.int(name) ?? this.fail(`attribute ${name} is missing`);
  }

  string(name: string): string {
    return String(this.#attribute(name, "string") ?? "");
  }

  tensor(name: string): Tensor | undefined {
    return this.#attribute(name, "tensor") as Tensor | undefined;
  }

  #attribute(
    name: string,
    type: Attribute["type"],
  ): Attribute["value"] | undefined {
    const attribute = this.node.attributes[name];
    if (attribute === undefined)
      return operators[this.node.opType as OperatorName].attributes[name]
        ?.default;
    if (attribute.type !== type)
      this.fail(`attribute ${name} is of type ${attribute.type}, not ${type}`);
    return attribute.value;
  }

  /** An axis counted from the front. @throws {GraphInvalidError} outside [−rank, rank) */
  axis(axis: number, rank: number): number {
    if (axis < -rank || axis >= rank)
      this.fail(`axis ${axis} does not exist in ${rank} dimensions`);
    return axis < 0 ? axis + rank : axis;
  }

  /** A dimension that only the run will tell. */
  unknown(what: string): string {
    return `${this.node.name}.${what}`;
  }

  /** The dimension both sides must share. @throws {GraphInvalidError} two numbers that differ */
  same(a: Dimension, b: Dimension, what: string): Dimension {
    if (typeof a === "number" && typeof b === "number" && a !== b)
      this.fail(`${what}: ${a} against ${b}`);
    return typeof a === "number" ? a : b;
  }

  /** numpy's broadcasting, right-aligned; a symbol against a number larger than 1 becomes the number. */
  broadcast(shapes: readonly (readonly Dimension[])[]): Dimension[] {
    const rank = Math.max(0, ...shapes.map((dims) => dims.length));
    return Array.from({ length: rank }, (_, i) => {
      let result: Dimension = 1;
      for (const dims of shapes) {
        const at = i - rank + dims.length;
        if (at < 0 || dims[at] === 1) continue;
        const dim = dims[at];
        if (result === 1) result = dim;
        else if (
          typeof result === "number" &&
          typeof dim === "number" &&
          result !== dim
        )
          this.fail(
            `shapes ${shapes.map(textOfDims).join(" and ")} do not broadcast`,
          );
        else if (typeof dim === "number") result = dim;
      }
      return result;
    });
  }

  fail(what: string): never {
    throw new GraphInvalidError(this.node.name, `${this.node.opType}: ${what}`);
  }
}

/** From what is known of the inputs to what is known of the outputs, left-out ones included. */
export type ShapeRule = (context: RuleContext) => readonly Known[];

/** A shape as people read it: `[batch, 3, 64, 32]`. */
export function textOfDims(dims: readonly Dimension[]): string {
  return `[${dims.join(", ")}]`;
}

/** Whether two elements of shape tensors are equal; undefined where only the run will tell. */
export function compareElements(
  a: Dimension,
  b: Dimension,
): boolean | undefined {
  if (a === b) return true;
  if (typeof a === "number" && typeof b === "number") return false;
  if (typeof b === "number") return canEqual(a, b) ? undefined : false;
  if (typeof a === "number") return canEqual(b, a) ? undefined : false;
  return undefined;
}

/** A value's facts with its name. */
export function valueInfo(name: string, known: Known): ValueInfo {
  return { name, dataType: known.dataType, dims: known.dims };
}
