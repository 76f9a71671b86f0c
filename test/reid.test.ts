import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as reid from "../src/reid.js";

describe("the package", () => {
  test("gives its public surface under its own name", async () => {
    const name: string = "spcl-reid";
    assert.equal(await import(name), reid);
  });

  test("keeps its modules private", async () => {
    const name: string = "spcl-reid/dist/src/core/store.js";
    await assert.rejects(import(name), {
      code: "ERR_PACKAGE_PATH_NOT_EXPORTED",
    });
  });

  test("is enough to differentiate a graph and check what comes out", () => {
    const g = new reid.GraphBuilder("square");
    const x = g.input("x", "float32", [3]);
    const loss = g.op("ReduceSum", [g.op("Mul", [x, x])]);
    g.output(loss, "float32", [1], "loss");
    const forward = { graph: g.build(), opset: 17, irVersion: 8, metadata: {} };
    const { graph, gradients, values } = reid.differentiate(
      forward,
      loss,
      [x],
      reid.inferShapes(forward),
    );
    assert.deepEqual(gradients.get(x)?.dims, [3]);
    const lowered = reid.lower(graph, forward.opset, values);
    assert.doesNotThrow(() => reid.checkGraph({ ...forward, graph: lowered }));
  });

  test("throws errors that have a code", () => {
    assert.throws(
      () => reid.readModel(Uint8Array.of(1, 2, 3)),
      (error) =>
        error instanceof reid.ReidError && error.code === "ONNX_MALFORMED",
    );
  });
});
