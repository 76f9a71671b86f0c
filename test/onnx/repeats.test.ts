import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { GraphBuilder, int } from "#onnx/builder";
import { withoutOutputCopies, withoutRepeats } from "#onnx/repeats";

const opTypes = (graph: ReturnType<typeof withoutRepeats>) =>
  graph.nodes.map(({ opType }) => opType);

describe("withoutRepeats", () => {
  test("computes once what two nodes compute alike, and what follows from it", () => {
    const g = new GraphBuilder("twice");
    const x = g.input("x", "float32", [2, 3]);
    const turned = () => g.op("Transpose", [x]);
    const halves = [turned(), turned()].map((v) => g.op("Neg", [v]));
    g.output(g.op("Add", halves), "float32", [3, 2], "y");
    const graph = withoutRepeats(g.build());
    assert.deepEqual(opTypes(graph), ["Transpose", "Neg", "Add", "Identity"]);
    assert.equal(graph.nodes[2].inputs[0], graph.nodes[2].inputs[1]);
  });

  test("keeps nodes whose attributes, inputs or number of outputs differ", () => {
    const g = new GraphBuilder("apart");
    const x = g.input("x", "float32", [2, 2]);
    const results = [
      g.op("Softmax", [x], { axis: int(0) }),
      g.op("Softmax", [x], { axis: int(1) }),
      ...g.node("MaxPool", [x], { outputs: 1 }),
      ...g.node("MaxPool", [x], { outputs: 2 }),
    ];
    results.forEach((name, i) => g.output(name, "float32", [2, 2], `y${i}`));
    assert.equal(
      withoutRepeats(g.build()).nodes.length,
      g.build().nodes.length,
    );
  });

  test("takes constants for equal where they are the same object or short and equal", () => {
    const g = new GraphBuilder("constants");
    const x = g.input("x", "float32", [1]);
    const long = {
      dataType: "float32" as const,
      dims: [100],
      data: new Float32Array(100),
    };
    const sums = [
      g.constant(long),
      g.constant(long),
      g.constant({ ...long, data: long.data.slice() }),
      g.constant({ dataType: "float32", dims: [1], data: Float32Array.of(2) }),
      g.constant({ dataType: "float32", dims: [1], data: Float32Array.of(2) }),
    ].map((constant) => g.op("Add", [x, constant]));
    sums.forEach((sum) => g.op("Neg", [sum]));
    const adds = withoutRepeats(g.build()).nodes.filter(
      ({ opType }) => opType === "Add",
    );
    assert.equal(adds.length, 3);
  });

  test("leaves every graph output its name", () => {
    const g = new GraphBuilder("outputs");
    const x = g.input("x", "float32", [1]);
    g.node("Neg", [x], { outputs: ["a"] });
    g.node("Neg", [x], { outputs: ["b"] });
    for (const name of ["a", "b"]) g.output(name, "float32", [1]);
    assert.equal(withoutRepeats(g.build()).nodes.length, 2);
  });
});

describe("withoutOutputCopies", () => {
  test("lets the maker of a value write the output, and its readers read it there", () => {
    const g = new GraphBuilder("copies");
    const x = g.input("x", "float32", [1]);
    const y = g.op("Neg", [x]);
    g.output(y, "float32", [1], "first");
    g.output(g.op("Abs", [y]), "float32", [1], "second");
    const { nodes } = withoutOutputCopies(g.build());
    assert.deepEqual(
      nodes.map(({ opType, inputs, outputs }) => [opType, inputs, outputs]),
      [
        ["Neg", ["x"], ["first"]],
        ["Abs", ["first"], ["second"]],
      ],
    );
  });

  test("keeps the copy of an input, and the second copy of a value", () => {
    const g = new GraphBuilder("kept");
    const x = g.input("x", "float32", [1]);
    const y = g.op("Neg", [x]);
    g.output(x, "float32", [1], "same");
    g.output(y, "float32", [1], "one");
    g.output(y, "float32", [1], "two");
    assert.deepEqual(opTypes(withoutOutputCopies(g.build())), [
      "Neg",
      "Identity",
      "Identity",
    ]);
  });
});
