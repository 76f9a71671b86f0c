import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GraphBuilder, int, ints } from "#onnx/builder";
import { checkGraph } from "#onnx/check";
import {
  GraphInvalidError,
  OnnxUnsupportedError,
  OperatorUnsupportedError,
} from "#onnx/errors";
import type { Graph, Model, Node } from "#onnx/graph";

const node = (
  name: string,
  opType: string,
  inputs: string[],
  outputs: string[],
): Node => ({
  name,
  opType,
  domain: "",
  inputs,
  outputs,
  attributes: {},
});

const value = (name: string, ...dims: (number | string)[]) => ({
  name,
  dataType: "float32" as const,
  dims,
});

const valid: Graph = {
  name: "g",
  inputs: [value("x", "batch", 4)],
  outputs: [value("y", "batch", 4)],
  initializers: new Map([
    ["w", { dataType: "float32", dims: [4], data: new Float32Array(4) }],
  ]),
  nodes: [
    node("mul", "Mul", ["x", "w"], ["m"]),
    node("relu", "Relu", ["m"], ["y"]),
  ],
};

const model = (change: Partial<Graph>, opset = 17): Model => ({
  graph: { ...valid, ...change },
  opset,
  irVersion: 8,
  metadata: {},
});

const [mul, relu] = valid.nodes;

const invalid: Readonly<
  Record<string, { readonly change: Partial<Graph>; readonly says: RegExp }>
> = {
  "nodes out of order": {
    change: { nodes: [relu, mul] },
    says: /at "relu", input "m" exists nowhere before it/,
  },
  "a value made twice": {
    change: { nodes: [mul, relu, node("again", "Relu", ["x"], ["y"])] },
    says: /"y" is made twice/,
  },
  "a value with an initializer's name": {
    change: { nodes: [node("mul", "Relu", ["x"], ["w"]), relu] },
    says: /"w" is made twice/,
  },
  "two nodes of one name": {
    change: { nodes: [mul, { ...relu, name: "mul" }] },
    says: /two nodes of that name/,
  },
  "an output that nothing makes": {
    change: { outputs: [value("z", 1)] },
    says: /a graph output that nothing makes/,
  },
  "no output": { change: { outputs: [] }, says: /no outputs/ },
  "too many inputs": {
    change: { nodes: [mul, node("relu", "Relu", ["m", "x"], ["y"])] },
    says: /Relu has 2 inputs, takes 1 to 1/,
  },
  "an attribute that does not exist": {
    change: { nodes: [mul, { ...relu, attributes: { alpha: int(1) } }] },
    says: /Relu has no attribute alpha/,
  },
  "an attribute of another type": {
    change: {
      nodes: [
        mul,
        {
          ...node("soft", "Softmax", ["m"], ["y"]),
          attributes: { axis: ints(1) },
        },
      ],
    },
    says: /attribute axis is of type ints, not int/,
  },
  "a required attribute left out": {
    change: { nodes: [mul, node("cat", "Concat", ["m"], ["y"])] },
    says: /Concat needs attribute axis/,
  },
  "shapes that do not broadcast": {
    change: {
      initializers: new Map([
        ["w", { dataType: "float32", dims: [3], data: new Float32Array(3) }],
      ]),
    },
    says: /shapes \[batch, 4\] and \[3\] do not broadcast/,
  },
  "types that differ": {
    change: {
      initializers: new Map([
        ["w", { dataType: "int64", dims: [4], data: new BigInt64Array(4) }],
      ]),
    },
    says: /inputs are of types float32 and int64/,
  },
  "an output declared otherwise": {
    change: { outputs: [value("y", "batch", 5)] },
    says: /declared as float32 \[batch, 5\], comes out as float32 \[batch, 4\]/,
  },
  "an initializer of the wrong length": {
    change: {
      initializers: new Map([
        ["w", { dataType: "float32", dims: [4], data: new Float32Array(3) }],
      ]),
    },
    says: /initializer of 3 numbers/,
  },
};

describe("checkGraph", () => {
  test("takes a valid graph and tells every value's shape", () => {
    assert.deepEqual(checkGraph(model({})).get("m"), value("m", "batch", 4));
  });

  for (const [what, { change, says }] of Object.entries(invalid))
    test(`refuses ${what}`, () => {
      assert.throws(
        () => checkGraph(model(change)),
        (error) => {
          assert.ok(error instanceof GraphInvalidError, String(error));
          assert.match(error.message, says);
          return true;
        },
      );
    });

  test("refuses an operator that is not in the table, with its name and node", () => {
    const nodes = [mul, node("my-loop", "Loop", ["m"], ["y"])];
    assert.throws(
      () => checkGraph(model({ nodes })),
      (error) => {
        assert.ok(error instanceof OperatorUnsupportedError);
        assert.deepEqual(error.facts, {
          op: "Loop",
          opset: 17,
          node: "my-loop",
        });
        return true;
      },
    );
  });

  test("refuses an operator that came with a later operator set", () => {
    const nodes = [mul, node("gelu", "Gelu", ["m"], ["y"])];
    assert.throws(() => checkGraph(model({ nodes })), OperatorUnsupportedError);
    checkGraph(model({ nodes }, 20));
  });

  test("refuses operator sets before 13 and after 21", () => {
    for (const opset of [11, 12, 22])
      assert.throws(() => checkGraph(model({}, opset)), OnnxUnsupportedError);
    for (const opset of [13, 17, 18, 21]) checkGraph(model({}, opset));
  });
});

describe("GraphBuilder", () => {
  test("makes names of its own, the same ones for the same calls", () => {
    const build = () => {
      const g = new GraphBuilder("g");
      const x = g.input("x", "float32", ["batch", 2]);
      const y = g.op("Add", [g.op("Relu", [x]), g.op("Relu", [x])]);
      g.output(g.op("Mul", [y, g.constant(2)]), "float32", ["batch", 2], "y");
      return g.build();
    };
    assert.deepEqual(build(), build());
    checkGraph({ graph: build(), opset: 17, irVersion: 8, metadata: {} });
  });

  test("shares equal scalars and equal lists of axes", () => {
    const g = new GraphBuilder("g");
    assert.equal(g.constant(2), g.constant(2));
    assert.notEqual(g.constant(0), g.constant(-0));
    assert.equal(g.ints([0, 1]), g.ints([0, 1]));
  });

  test("goes on where another graph ended", () => {
    const g = GraphBuilder.extending(valid);
    g.output(g.op("Relu", ["y"], {}, "relu"), "float32", ["batch", 4], "z");
    const graph = g.build();
    checkGraph({ graph, opset: 17, irVersion: 8, metadata: {} });
    assert.deepEqual(graph.nodes.slice(0, 2), valid.nodes);
  });
});
